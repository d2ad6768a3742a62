#!/usr/bin/env bash
# Makes the virtual environments of the peers that the benchmarks compare with: .peers/sb, .peers/brax, .peers/trl
# and .peers/d3rlpy.
#
#   benchmarks/speed/peers/make.sh            all
#   benchmarks/speed/peers/make.sh sb         Stable-Baselines3 (SAC, PPO) and SBX
#   benchmarks/speed/peers/make.sh brax       Brax's own SAC and PPO, and rejax
#   benchmarks/speed/peers/make.sh trl        TRL (losses over tokens)
#   benchmarks/speed/peers/make.sh d3rlpy     d3rlpy (IQL, TD3+BC, CQL)
#
# One that is there already is made anew only when its requirements have changed. PYTHON names the interpreter (3.11 or
# newer; python3.11 by default, with which the pins were resolved), PEERS the folder. pip reads its own settings, so
# PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS may name the place that has torch for CPUs; without it pip takes PyPI's torch, which on
# Linux brings several gigabytes of CUDA libraries that are not used here.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
peers=${PEERS:-$here/../../../.peers}
python=${PYTHON:-$(command -v python3.11 || command -v python3)}

make_peer() {
    local name=$1 requirements=$here/requirements-$1.txt venv=$peers/$1
    if [ ! -f "$requirements" ]; then
        echo "error: there are no peers called '$name'; there are: sb brax trl d3rlpy." >&2
        return 1
    fi
    if cmp -s "$requirements" "$venv/.installed"; then
        echo "$venv is up to date."
        return 0
    fi
    echo "Making $venv with $("$python" --version) (a few minutes)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
    "$venv/bin/python" -m pip check
    cp "$requirements" "$venv/.installed"
    echo "Made $venv."
}

[ "$#" -gt 0 ] || set -- sb brax trl d3rlpy
for name in "$@"; do make_peer "$name"; done
