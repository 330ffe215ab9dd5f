// SPDX-License-Identifier: GPL-2.0
/*
 * Prints the geometry of a disk, "CYLINDERS HEADS SECTORS", as HDIO_GETGEO tells it.
 *
 * usage: geometry DEVICE
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <linux/hdreg.h>

int main(int argc, char **argv)
{
	struct hd_geometry geometry;
	int fd;

	if (argc != 2)
		errx(2, "usage: %s DEVICE", argv[0]);
	fd = open(argv[1], O_RDONLY);
	if (fd < 0 || ioctl(fd, HDIO_GETGEO, &geometry))
		err(1, "%s", argv[1]);
	printf("%u %u %u\n", geometry.cylinders, geometry.heads, geometry.sectors);
	return 0;
}
