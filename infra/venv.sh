# Sourced by the scripts beside it, from the project's folder. `prepare_venv run|test` makes .venv what the lock says.
# Needs Python 3.11 or newer with venv and pip, and a network the first time. Quick when nothing changed.

headline() { printf '\n== %s\n' "$*"; }

fail() {
    printf 'leadlog: %s\n' "$*" >&2
    exit 1
}

# Says what is missing, in words of every Python since 2.
check='
import sys
if sys.version_info < (3, 11):
    sys.exit("is Python %d.%d" % sys.version_info[:2])
for name in "venv", "ensurepip":
    try:
        __import__(name)
    except ImportError:
        sys.exit("has no module " + name)
'

find_python() {
    local candidate candidates=(python3.11 python3 python3.12 python3.13 python3.14) missing found=()
    [ -n "${PYTHON:-}" ] && candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        command -v "$candidate" >/dev/null || continue
        if missing=$("$candidate" -c "$check" 2>&1); then
            echo "$candidate"
            return
        fi
        case $missing in "is Python "* | "has no module "*) ;; *) missing="is no Python" ;; esac
        found+=("$candidate $missing,")
    done
    found=${found[*]:-none of them,}
    fail "Python 3.11 or newer with venv and pip is needed. Looked for ${candidates[*]}; found:" \
        "${found%,}. On Debian and Ubuntu: apt install python3 python3-venv." \
        "PYTHON=/path/to/python names another one."
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
            --requirement "$lock" || fail "pip failed, its message is above. Is there a network, and room on the" \
            "disk? HTTPS_PROXY names a proxy, PIP_INDEX_URL another index. Then run the same command again."
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
            --editable . || fail "the project itself could not be installed into .venv"
        echo "$wanted" >".venv/installed-$1"
    fi
}
