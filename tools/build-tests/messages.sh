#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Every message of the modules, the daemon, QEMU's plug-in and the commands is in
# Documentation/troubleshooting.rst, word by word but for the parts that differ.
here=$(dirname "$(readlink -f "$0")")
. "$here/../../selftests/lib/tap.sh"

cd "$here/../.." || exit
command -v perl > /dev/null || skip_all "no perl"
page=Documentation/troubleshooting.rst

# Prints "FILE: TEXT" for each text of three words or more that a file prints, and that is
# not on the page. In C these are the strings of calls that print, and those that such a call
# is given by a variable; in scripts they are what "die" and "say" are given. A text ends at
# a conversion (%u) or an expansion ($name), for which the page may have anything.
missing()
{
	perl -e '
		use strict;
		local $/;
		my ($page, @files) = @ARGV;

		sub read_file {
			open(my $file, "<", $_[0]) or die "$_[0]: $!\n";
			return scalar <$file>;
		}

		sub plain {
			my ($text) = @_;
			$text =~ s/\\n|``|\\//g;
			$text =~ s/\s+/ /g;
			return $text;
		}

		my $string = qr/"(?:[^"\\]|\\.)*"/s;

		sub strings {
			return map { substr($_, 1, -1) } $_[0] =~ /($string)/g;
		}

		my $print = qr/\b(?:say|refuse|session_fail|error_setg(?:_errno)?|error_report|error_reportf_err
			|error_append_hint|warn_report(?:_once)?|virtio_error|vq_err|fprintf|static_assert|pr_\w+
			|dev_(?:err|warn|notice|info)\w*)\s*\(/x;

		# Strings that follow each other are one.
		sub texts_of_c {
			my ($code) = @_;
			$code =~ s{/\*.*?\*/}{}gs;
			$code =~ s/"\s*(?:\\\n\s*)?"|"\s*PRI\w+\s*"//g;
			return map { split /(?:0x)?%[-+#0-9.]*(?:[lzth]*[a-zA-Z])?/, $_ }
				map { strings($_) }
				($code =~ /($print(?:$string|[^";])*;)/g,
				 $code =~ /((?:return|\breason =)\s+$string)/g,
				 $code =~ /(#(?:error|define \w+_ADVICE)\s+$string)/g);
		}

		sub texts_of_shell {
			my ($code) = @_;
			$code =~ s/^\s*#.*\n//gm;
			$code =~ s/\$\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)/\$x/g;
			return map { split /\$\{[^}]*\}|\$\w+/, $_ } map { strings($_) }
				$code =~ /\b((?:die|say)\s(?:[^"\n]*$string(?:\s*\\\n\s*)?)+)/g;
		}

		my $known = plain(read_file($page));
		for my $name (@files) {
			my $code = read_file($name);
			my %seen;
			for my $text ($name =~ /\.[ch]$/ ? texts_of_c($code) : texts_of_shell($code)) {
				$text = plain($text);
				$text =~ s/^[^\w\/-]+|[^\w\/)-]+$//g;
				next if $seen{$text}++ || split(" ", $text) < 3;
				print "$name: $text\n" if index($known, $text) < 0;
			}
		}' "$page" "$@"
}

is_complete()
{
	local output
	output=$(missing "$@")
	echo "$output"
	test -z "$output"
}

ok "the modules" is_complete drivers/*/*.[ch] include/*.h
ok "vhost-blkd" is_complete tools/vhost-blkd/*.c
ok "QEMU's plug-in" is_complete tools/qemu/*.c
mapfile -t scripts < <(grep -rlwE 'die|say' tools packaging --exclude='*.[ch]' \
	--exclude-dir={testbed,bench,build-tests,man,debian,series})
ok "the commands" is_complete "${scripts[@]}"
tap_end
