#!/usr/bin/env bash
# Runs every test, after installing what the tests need and saying so. Works from any directory, reads no input.
# Arguments go to the test runner: `./test.sh span` runs the tests with `span` in their name.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
exec </dev/null

say() { printf '==> %s\n' "$*"; }
fail() { printf 'test.sh: %s\n' "$*" >&2; exit 1; }

# Installs Debian packages, or says what a person has to install.
install_packages() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            as_root=(sudo -n)
        else
            fail "the tests need the packages: $*; install them and run this again"
        fi
    fi
    command -v apt-get >/dev/null || fail "the tests need, by their Debian names: $*; install them and run this again"
    say "installing Debian packages: $*"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# Asks for the packages whose commands are missing, all at once.
packages() {
    local missing=()
    command -v curl >/dev/null || missing+=(curl)
    command -v wget >/dev/null || missing+=(wget)
    command -v aria2c >/dev/null || missing+=(aria2)
    command -v strace >/dev/null || missing+=(strace)
    command -v git >/dev/null || missing+=(git)
    command -v python3 >/dev/null || missing+=(python3)
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    # Debian ships `venv` without the `ensurepip` it needs.
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
    if [ "${#missing[@]}" -gt 0 ]; then
        install_packages "${missing[@]}"
    fi
}

# Makes the Python environment of the tests, again only when its list of packages changed.
python_environment() {
    local venv=$PWD/target/test-venv wanted=tests/requirements.txt
    if ! cmp -s "$wanted" "$venv/installed.txt"; then
        say "making the Python environment of the tests in target/test-venv"
        rm -rf -- "$venv"
        python3 -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted"
        cp -- "$wanted" "$venv/installed.txt"
    fi
    export HAPAX_TEST_PYTHON=$venv/bin/python
}

# Installs the clients that run in Node, again only when their lock file changed.
node_clients() {
    local folder=$PWD/target/test-clients wanted=tests/clients
    if ! cmp -s "$wanted/package-lock.json" "$folder/installed.json"; then
        say "installing the clients that run in Node in target/test-clients"
        rm -rf -- "$folder"
        mkdir -p -- "$folder"
        cp -- "$wanted/package.json" "$wanted/package-lock.json" "$folder/"
        (cd -- "$folder" && npm ci --silent --no-audit --no-fund --ignore-scripts)
        cp -- "$wanted/package-lock.json" "$folder/installed.json"
    fi
    export HAPAX_TEST_CLIENTS=$folder
}

# Gives the tests a folder on a disk: of files in memory the client remembers no digest, and many tests are about that.
disk() {
    if [ "$(stat --file-system --format %T -- "${TMPDIR:-/tmp}")" = tmpfs ]; then
        mkdir -p -- target/tmp
        say "the folder for temporary files lies in memory: using target/tmp"
        export TMPDIR=$PWD/target/tmp
    fi
}

if ! command -v cargo >/dev/null; then
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    command -v cargo >/dev/null || fail "cargo is missing; install Rust with rustup"
fi
packages
python_environment
node_clients
disk

# The runner comes last, so that its summary is the last thing one reads.
say "examples in the documentation"
cargo test --workspace --doc --locked
# What is asked for by name is tests; the campaign and the hostile server belong to the whole.
if [ "$#" -eq 0 ]; then
    say "the short campaign: the real program, killed, cut off and starved at seeded moments"
    cargo xtask campaign
    say "the hostile server: what downloaders make of one lie per path"
    cargo xtask hostile
fi
say "tests"
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --locked "$@"
else
    say "cargo-nextest is not installed: using cargo test"
    cargo test --workspace --locked --all-targets "$@"
fi
