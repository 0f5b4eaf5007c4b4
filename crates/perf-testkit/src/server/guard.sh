# Cleans up after a server when the test process has ended without doing so itself.
# Usage: sh -c "$script" guard DIRECTORY SIGNAL
# Each line on standard input is the number of the server's process, or empty when there is none. The end of input means
# that the test process is gone: the server is asked to end with SIGNAL, killed with all its descendants two seconds
# later, and its directory is removed.
trap '' HUP INT

server=
while IFS= read -r line; do server=$line; done

descendants() {
    for status in $(grep -ls "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status); do
        child=${status#/proc/}
        child=${child%/status}
        echo "$child"
        descendants "$child"
    done
}

if [ -n "$server" ]; then
    family="$server $(descendants "$server" | tr '\n' ' ')"
    kill -CONT $family
    kill -"$2" "$server"
    tries=40
    while kill -0 "$server" && [ "$tries" -gt 0 ]; do
        sleep 0.05
        tries=$((tries - 1))
    done
    kill -KILL $family $(descendants "$server")
fi
rm -rf -- "$1" || { sleep 0.5; rm -rf -- "$1"; }
