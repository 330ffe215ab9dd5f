# SPDX-License-Identifier: GPL-2.0
# A table of a benchmark's results.csv, in the order of the file.
#
# awk -F , -f table.awk -v suite=backend -v kernel=6.12 -v metric=insn results.csv
#			workloads by subjects
# awk -F , -f table.awk -v suite=e2e -v kernel=6.12 -v metrics="iops exits:2" results.csv
#			a row for each workload and subject, with these metrics, so many
#			digits behind the point
#	-v subjects="A B"	these only, in this order
#	-v workloads=REGEX	these only
#	-v without=REGEX	not these
#	-v ratio="A REGEX"	a last column: A relative to the least of the subjects
#				that match
#	-v ratio=REGEX		of rows: the first metric relative to the greatest
#	-v digits=2		behind the point (0)
#	-v style=rst		reStructuredText instead of Markdown

NR > 1 && $1 == suite && $3 == kernel && (metrics != "" || $5 == metric) &&
(workloads == "" || $4 ~ workloads) && (without == "" || $4 !~ without) {
	if (!($4 in row)) { row[$4] = ++rows; name[rows] = $4 }
	if (!($2 in column)) { column[$2] = ++columns; head[columns] = $2 }
	value[$4, $2, $5] = $6
}

# The best of the subjects that match: what has most of it or least.
function best(workload, metric, regex, most,    i, v, found) {
	for (i = 1; i <= columns; i++)
		if (head[i] ~ regex && (workload, head[i], metric) in value) {
			v = value[workload, head[i], metric]
			if (found == "" || (most ? v > found : v < found))
				found = v
		}
	return found
}

function relative(v, base) {
	return base && v != "" ? sprintf("%.2f", v / base) : "-"
}

function set(r, c, text) {
	cell[r, c] = text
	if (length(text) > width[c])
		width[c] = length(text)
	if (c > last)
		last = c
}

function set_figure(r, c, workload, subject, metric, digits) {
	set(r, c, (workload, subject, metric) in value ? \
		sprintf("%." digits + 0 "f", value[workload, subject, metric]) : "-")
}

function workloads_by_subjects(    r, c, of, num) {
	num = columns
	if (subjects != "")
		num = split(subjects, shown, " ")
	else
		for (c in head)
			shown[c] = head[c]
	split(ratio, of, " ")
	set(0, 0, "workload")
	for (c = 1; c <= num; c++)
		set(0, c, shown[c])
	if (ratio != "")
		set(0, num + 1, "ratio")
	for (r = 1; r <= rows; r++) {
		set(r, 0, name[r])
		for (c = 1; c <= num; c++)
			set_figure(r, c, name[r], shown[c], metric, digits)
		if (ratio != "")
			set(r, num + 1, relative(value[name[r], of[1], metric],
						 best(name[r], metric, of[2])))
	}
	return rows
}

function row_for_each(    n, m, c, i, r, of) {
	n = split(metrics, wanted, " ")
	set(0, 0, "workload")
	set(0, 1, "subject")
	for (m = 1; m <= n; m++) {
		split(wanted[m], of, ":")
		sub(/^part_/, "", of[1])
		set(0, m + 1, of[1])
	}
	if (ratio != "")
		set(0, n + 2, "ratio")
	for (i = 1; i <= rows; i++)
		for (c = 1; c <= columns; c++) {
			split(wanted[1], of, ":")
			if (!((name[i], head[c], of[1]) in value))
				continue
			set(++r, 0, name[i])
			set(r, 1, head[c])
			if (ratio != "")
				set(r, n + 2, relative(value[name[i], head[c], of[1]],
						       best(name[i], of[1], ratio, 1)))
			for (m = 1; m <= n; m++) {
				of[2] = 0
				split(wanted[m], of, ":")
				set_figure(r, m + 1, name[i], head[c], of[1], of[2])
			}
		}
	return r
}

function repeated(text, n,    s) {
	while (n-- > 0)
		s = s text
	return s
}

function print_row(r,    c, line) {
	for (c = 0; c <= last; c++)
		line = line (style == "rst" ? (c ? "  " : "") : "| ") \
			sprintf("%" (c < labels ? "-" : "") width[c] "s", cell[r, c]) \
			(style == "rst" ? "" : " ")
	print line (style == "rst" ? "" : "|")
}

function print_rule(    c, line) {
	for (c = 0; c <= last; c++)
		line = line (style == "rst" ? (c ? "  " : "") repeated("=", width[c]) : \
			"|" repeated("-", width[c] + 1) (c < labels ? "-" : ":"))
	print line (style == "rst" ? "" : "|")
}

END {
	if (!rows)
		exit
	labels = metrics == "" ? 1 : 2
	printed = metrics == "" ? workloads_by_subjects() : row_for_each()
	if (style == "rst")
		print_rule()
	print_row(0)
	print_rule()
	for (r = 1; r <= printed; r++)
		print_row(r)
	if (style == "rst")
		print_rule()
}
