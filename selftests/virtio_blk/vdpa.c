// SPDX-License-Identifier: GPL-2.0
/*
 * What "vdpa dev add name NAME mgmtdev vduse" and "vdpa dev del NAME" do, by generic
 * netlink: the number of the family is asked for by its name, then the command is sent
 * with its attributes, all of them strings, and acknowledged.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/vdpa.h>

#include "vdpa.h"

struct message {
	struct nlmsghdr hdr;
	struct genlmsghdr genl;
	char attributes[512];
};

static void begin(struct message *m, unsigned int family, unsigned int command)
{
	memset(m, 0, sizeof(*m));
	m->hdr.nlmsg_type = family;
	m->hdr.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	m->hdr.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	m->genl.cmd = command;
	m->genl.version = 1;
}

static void add_string(struct message *m, unsigned int type, const char *text)
{
	struct nlattr *attr = (void *)((char *)m + NLMSG_ALIGN(m->hdr.nlmsg_len));

	attr->nla_type = type;
	attr->nla_len = NLA_HDRLEN + strlen(text) + 1;
	memcpy((char *)attr + NLA_HDRLEN, text, strlen(text) + 1);
	m->hdr.nlmsg_len = NLMSG_ALIGN(m->hdr.nlmsg_len) + NLA_ALIGN(attr->nla_len);
}

/* Of the answer to CTRL_CMD_GETFAMILY. */
static unsigned int find_family(const struct message *m)
{
	const char *at = (const char *)m + NLMSG_LENGTH(GENL_HDRLEN);
	const char *end = (const char *)m + m->hdr.nlmsg_len;
	const struct nlattr *attr;

	for (; at + NLA_HDRLEN <= end; at += NLA_ALIGN(attr->nla_len)) {
		attr = (const void *)at;
		if (attr->nla_type == CTRL_ATTR_FAMILY_ID)
			return *(const uint16_t *)(at + NLA_HDRLEN);
		if (attr->nla_len < NLA_HDRLEN)
			break;
	}
	return 0;
}

/* Sends a message and waits until it is acknowledged; what comes before is kept. */
static int exchange(int fd, const struct message *m, struct message *answer)
{
	union {
		struct message message;
		struct {
			struct nlmsghdr hdr;
			struct nlmsgerr error;
		};
		char room[4096];
	} reply;

	if (send(fd, m, m->hdr.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		if (recv(fd, &reply, sizeof(reply), 0) < (ssize_t)sizeof(reply.hdr))
			return -EIO;
		if (reply.hdr.nlmsg_type == NLMSG_ERROR)
			return reply.error.error;
		if (answer)
			*answer = reply.message;
	}
}

static int do_command(unsigned int command, const char *name, const char *parent)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	struct message m, answer = {};
	int err;

	if (fd < 0)
		return -errno;
	begin(&m, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	add_string(&m, CTRL_ATTR_FAMILY_NAME, VDPA_GENL_NAME);
	err = exchange(fd, &m, &answer);
	if (!err) {
		begin(&m, find_family(&answer), command);
		if (parent)
			add_string(&m, VDPA_ATTR_MGMTDEV_DEV_NAME, parent);
		add_string(&m, VDPA_ATTR_DEV_NAME, name);
		err = exchange(fd, &m, NULL);
	}
	close(fd);
	return err;
}

int vdpa_add(const char *name, const char *parent)
{
	return do_command(VDPA_CMD_DEV_NEW, name, parent);
}

int vdpa_del(const char *name)
{
	return do_command(VDPA_CMD_DEV_DEL, name, NULL);
}
