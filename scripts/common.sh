# Shared by the scripts: where things are, and what the workspace contains.
# Sourced, never run. The caller has `set -euo pipefail`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
build=${CARGO_TARGET_DIR:-$root/target}
[[ $build == /* ]] || build=$root/$build
# Logs are read by people and by these scripts: no colours.
export CARGO_TARGET_DIR=$build CARGO_TERM_COLOR=never TERM=dumb

# Makes the build folder as cargo does, which leaves a folder without the tag that keeps it out of backups.
make_build_folder() {
    mkdir -p "$build"
    [[ -e $build/CACHEDIR.TAG ]] || echo 'Signature: 8a477f597d28d172789f06886806bc55' >"$build/CACHEDIR.TAG"
}

die() {
    echo "error: $*" >&2
    exit 1
}

# What cargo knows about the members, as one line of JSON. It is taken apart with grep, because a machine with Rust only has
# neither jq nor python, and a program of our own would have to be built first. Only two facts are relied on: a package has
# one object called "features" (those of dependencies are arrays) and one "manifest_path".
metadata() {
    cargo metadata --no-deps --format-version 1 --locked
}

# One line for each library crate: its name, then its features, `default` and `full` apart.
crates_and_features() {
    local line features='' path='' pairs=0
    while IFS= read -r line; do
        case $line in
        '"features"'*) features=$line ;;
        *) path=$line ;;
        esac
        if [[ -n $features && -n $path ]]; then
            pairs=$((pairs + 1))
            path=${path%/Cargo.toml\"}
            if [[ $path == *"$root/crates/"* ]]; then
                echo "${path##*/} $(feature_names "$features")"
            fi
            features='' path=''
        fi
    done < <(metadata | grep -oE '"manifest_path":"[^"]+"|"features":\{[^}]*\}')
    ((pairs > 0)) || die "cargo metadata lists no packages"
}

feature_names() {
    grep -oE '"[^"]+":\[' <<<"$1" | tr -d '":[' | grep -vxE 'default|full' | tr '\n' ' ' || true
}

# The names of all targets of one kind: test, example, bench.
targets() {
    metadata | grep -oE "\"kind\":\[\"$1\"\],\"crate_types\":\[\"bin\"\],\"name\":\"[^\"]+\"" |
        sed 's/.*"name":"//; s/"$//' | sort -u
}

# The crates whose sources have tests for loom's scheduler.
loom_crates() {
    {
        grep -rlE 'all\((test, perf_loom|perf_loom, test)\)' crates/*/src --include='*.rs'
        ls crates/*/tests/loom.rs
    } | cut -d/ -f2 | sort -u
}
