# SPDX-License-Identifier: GPL-2.0
# A table of a benchmark's results.csv: workloads by subjects, in the order in which
# they are in the file.
#
# awk -F , -f table.awk -v suite=backend -v kernel=6.12 -v metric=insn results.csv
#	-v subjects="A B"	these only, in this order
#	-v workloads=REGEX	these only
#	-v ratio="A B"		a last column: A relative to B, or to the least of
#				the subjects that begin with "B*"
#	-v digits=2		behind the point (0)
#	-v style=rst		reStructuredText instead of Markdown

NR > 1 && $1 == suite && $3 == kernel && $5 == metric &&
(workloads == "" || $4 ~ workloads) {
	if (!($4 in row)) { row[$4] = ++rows; name[rows] = $4 }
	if (!($2 in column)) { column[$2] = ++columns; head[columns] = $2 }
	value[$4, $2] = $6
}

function base(workload, other,    i, least) {
	if (!sub(/\*$/, "", other))
		return value[workload, other]
	for (i = 1; i <= columns; i++)
		if (index(head[i], other) == 1 && (workload, head[i]) in value &&
		    (!least || value[workload, head[i]] < least))
			least = value[workload, head[i]]
	return least
}

function set(r, c, text) {
	cell[r, c] = text
	if (length(text) > width[c])
		width[c] = length(text)
}

function repeated(text, n,    s) {
	while (n-- > 0)
		s = s text
	return s
}

function print_row(r,    c, line) {
	for (c = 0; c <= last; c++)
		line = line (style == "rst" ? (c ? "  " : "") : "| ") \
			sprintf("%" (c ? "" : "-") width[c] "s", cell[r, c]) \
			(style == "rst" ? "" : " ")
	print line (style == "rst" ? "" : "|")
}

function print_rule(    c, line) {
	for (c = 0; c <= last; c++)
		line = line (style == "rst" ? (c ? "  " : "") repeated("=", width[c]) : \
			"|" repeated("-", width[c] + 1) (c ? ":" : "-"))
	print line (style == "rst" ? "" : "|")
}

END {
	if (!rows)
		exit
	if (subjects != "") {
		delete head
		columns = split(subjects, head, " ")
	}
	set(0, 0, "workload")
	for (c = 1; c <= columns; c++)
		set(0, c, head[c])
	for (r = 1; r <= rows; r++) {
		set(r, 0, name[r])
		for (c = 1; c <= columns; c++)
			set(r, c, (name[r], head[c]) in value ? \
				sprintf("%." digits + 0 "f", value[name[r], head[c]]) : "-")
	}
	last = columns
	if (ratio != "") {
		split(ratio, of, " ")
		set(0, ++last, "ratio")
		for (r = 1; r <= rows; r++) {
			b = base(name[r], of[2])
			set(r, last, b && (name[r], of[1]) in value ? \
				sprintf("%.2f", value[name[r], of[1]] / b) : "-")
		}
	}
	if (style == "rst")
		print_rule()
	print_row(0)
	print_rule()
	for (r = 1; r <= rows; r++)
		print_row(r)
	if (style == "rst")
		print_rule()
}
