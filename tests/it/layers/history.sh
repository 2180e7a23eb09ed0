# Operations of the commands of a history. Impossible operations do nothing. Changed files get a fixed time that depends
# on $time, because a history must not depend on the clock.
cd /h
plain() { [ -f "$1" ] && [ ! -L "$1" ]; }
absent() { [ ! -e "$1" ] && [ ! -L "$1" ]; }
stamp() {
    for path in "$@"; do
        absent "$path" || touch -h -d "@$((1000 + time))" "$path"
        touch -d "@$((1000 + time))" "$(dirname "$path")"
    done
}
# In a user namespace the kernel clears setuid and setgid bits of a file that is written to; as host root it does not.
no_ids() { absent "$1" || chmod ug-s "$1"; }
write() { plain "$1" || absent "$1" && no_ids "$1" && echo "$2" > "$1" && stamp "$1"; }
append() { plain "$1" && no_ids "$1" && echo "$2" >> "$1" && stamp "$1"; }
open_only() { plain "$1" && true >> "$1"; }
remove() { absent "$1" || { rm -rf "$1" && stamp "$1"; }; }
make() { absent "$1" && mkdir -m "$2" "$1" && stamp "$1"; }
# Overlayfs marks the new directory as opaque.
remake() { [ -d "$1" ] && [ ! -L "$1" ] && rm -rf "$1" && mkdir -m "$2" "$1" && stamp "$1"; }
replace() { plain "$1" || absent "$1" && echo "$2" > "$1.new" && mv "$1.new" "$1" && stamp "$1"; }
mode() { [ -L "$1" ] || chmod "$2" "$1"; }
owner() { chown -h "$2" "$1"; }
link() { plain "$1" && absent "$2" && ln "$1" "$2" && stamp "$1" "$2"; }
symlink() { absent "$2" && ln -s "$1" "$2" && stamp "$2"; }
rename() { plain "$1" && { plain "$2" || absent "$2"; } && mv "$1" "$2" && stamp "$1" "$2"; }
fifo() { absent "$1" && mkfifo -m "$2" "$1" && stamp "$1"; }
hole() { plain "$1" && no_ids "$1" && truncate -s "$2" "$1" && printf middle | dd of="$1" bs=1 seek=$(($2 / 2)) conv=notrunc && stamp "$1"; }
attribute() { [ -L "$1" ] || /history set "$1" "$2" "$3"; }
no_attribute() { [ -L "$1" ] || /history unset "$1" "$2"; }
