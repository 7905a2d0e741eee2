#!/bin/sh
# Makes, in several steps, files that are easily lost between a root file system and a layer.
set -eu
mkdir -p /odd
cd /odd

# attribute FILE NAME HEX: there is no setfattr in a minimal image, but there is perl.
attribute() {
  perl -e 'my ($call, $file, $name, $value) = ($ARGV[0] + 0, $ARGV[1], $ARGV[2], pack("H*", $ARGV[3]));
           syscall($call, $file, $name, $value, length $value, 0) == 0 or die "$file: $name: $!\n"' \
    "$([ "$(uname -m)" = x86_64 ] && echo 188 || echo 5)" "$@"
}

case "$1" in
  make)
    mkdir -p gone/deep emptied/deep swapped kept.d
    echo gone > gone/file; echo gone > gone/deep/file
    echo first > emptied/old; echo first > emptied/deep/old
    echo inside > swapped/inside
    echo file > other-way
    echo kept > kept.d/kept; echo lost > kept.d/lost
    echo one > link-a; ln link-a link-b; ln link-a kept.d/link-c
    ln -s /nowhere/at/all dangling; ln -s ../../../../etc/passwd upwards; ln -s swapped to-directory
    mkfifo pipe
    echo '#!/bin/sh' > setuid; chmod 4755 setuid; echo x > setgid; chmod 2755 setgid; mkdir -m 1777 sticky
    echo x > unreadable; chmod 000 unreadable
    echo x > "$(printf 'latin-caf\351')"; echo x > 'with
newline'; echo x > ' blank '; echo x > "$(printf '%0255d' 7)"
    deep=$(printf 'd%059d/d%059d/d%059d/d%059d/d%059d' 1 2 3 4 5); mkdir -p "$deep"; echo deep > "$deep/end"
    : > empty; truncate -s 5M sparse; echo tail >> sparse
    touch -d '2001-02-03 04:05:06.987654321' old; touch -h -d '1999-12-31 23:59:59.5' dangling
    echo x > capable; chmod 755 capable
    attribute capable security.capability 0100000200040000000000000000000000000000
    echo x > noted
    attribute noted user.note 72656164206d65
    ;;
  change)
    rm -r gone
    rm -r emptied; mkdir emptied; echo second > emptied/new
    rm -r swapped; echo 'a file now' > swapped
    rm other-way; mkdir other-way; echo inside > other-way/inside
    rm kept.d/lost
    chmod 700 sticky; touch -d '2002-03-04' old
    mv ' blank ' renamed
    rm -rf /usr/share/perl5 /etc/motd
    ;;
  change-back)
    rm swapped; mkdir swapped; echo again > swapped/again
    rm -r other-way; echo 'a file again' > other-way
    ln kept.d/kept kept.d/later-link
    ;;
  list)
    # Times that the builder will set back are listed as it will leave them. How many links a file has is not: where
    # nothing can be mounted each name is a file of its own when a step begins.
    {
    find . -type f -exec stat -c 'f %n %a %s %Y' {} +
    find . -type d -exec stat -c 'd %n %a' {} +
    find . -type l -exec stat -c 'l %N %Y' {} +
    find . ! -type f ! -type d ! -type l -exec stat -c 'o %n %a %F' {} +
    find . -type f -perm /444 -exec sha256sum {} +
    } | perl -pe 'my $e = $ENV{SOURCE_DATE_EPOCH}; s/ (\d+)$/ $e/ if $e && / (\d+)$/ && $1 > $e'
    ;;
esac
