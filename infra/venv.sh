# Sourced by the scripts beside it, from the project's folder. `prepare_venv run|test` makes .venv what the lock says.
# Needs Python 3.11 or newer with venv and pip, and a network the first time. Quick when nothing changed.

headline() { printf '\n== %s\n' "$*"; }

fail() {
    printf 'leadlog: %s\n' "$*" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3.11}" python3 python3.12 python3.13; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer with the module venv was found (on Debian and Ubuntu: install python3 and" \
        "python3-venv). PYTHON=/path/to/python names another."
}

prepare_venv() { # run or test
    local lock=infra/requirements.lock python wanted
    [ "$1" = test ] && lock=infra/requirements-test.lock
    if [ ! -x .venv/bin/python ]; then
        python=$(find_python)
        headline "Making .venv with $("$python" --version)"
        "$python" -m venv .venv || fail "the module venv failed; remove .venv and see the message above"
    fi
    wanted=$(cat "$lock" pyproject.toml | sha256sum)
    if [ "$(cat ".venv/installed-$1" 2>/dev/null)" != "$wanted" ]; then
        headline "Installing what $lock names into .venv (the first time a minute or two)"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
            --requirement "$lock" || fail "pip failed; is there a network? PIP_PROXY or HTTPS_PROXY name a proxy."
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
            --editable . || fail "the project itself could not be installed into .venv"
        echo "$wanted" >".venv/installed-$1"
    fi
}
