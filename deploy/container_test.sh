#!/usr/bin/env bash
# Builds the cpu image and shows what docs/how-to/containers.md promises of it, with whatever Docker engine is there.
#
#   TASKS            the tasks to ask; all three where it is not set
#   HOOPER_SERVE     the models to serve; all where it is not set
#   BUILD_OPTIONS    further options of `docker build`, such as --network=host
#   COMPOSE          the Compose command; `docker compose` where it is not set, and `none` leaves that part out
#   GPU=1            also builds the gpu image (gigabytes) and shows that it refuses to start without a GPU
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly TASKS=${TASKS:-text-classification question-answering summarization}
readonly COMPOSE=${COMPOSE:-docker compose}
readonly MAX_BYTES=700000000 MEMORY=1g
readonly NAME=hooper-container-test PROJECT=hooper-container-test
work=$(mktemp -d)

fail() {
    echo "FAILED  $*" >&2
    exit 1
}

shown() {
    echo "ok      $*"
}

compose() {
    # the test's own ports, so that it does not meet a service that runs here already
    HOOPER_PORT=18000 PROMETHEUS_PORT=19090 GRAFANA_PORT=13000 $COMPOSE --project-name "$PROJECT" "$@"
}

clean_up() {
    docker rm --force "$NAME" > /dev/null 2>&1 || true
    [[ $COMPOSE == none ]] || compose --profile observability down --volumes --timeout 5 > /dev/null 2>&1 || true
    rm -rf "$work"
}

build() {
    # shellcheck disable=SC2086  # several options
    DOCKER_BUILDKIT=1 docker build ${BUILD_OPTIONS:-} --target "$1" --build-arg REVISION="$(git rev-parse HEAD 2> /dev/null || echo unknown)" \
        --tag "hooper:$1" . > "$work/build.log" 2>&1 || { tail -30 "$work/build.log"; fail "the image $1 does not build"; }
}

# run [option...]: the service as an administrator would confine it, with no network but its own loopback
run() {
    docker rm --force "$NAME" > /dev/null 2>&1 || true
    docker run --detach --name "$NAME" --network none --env HOOPER_PUBLISHED_HOST=127.0.0.1 --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
        --memory "$MEMORY" --memory-swap "$MEMORY" --env HOOPER_SERVE="${HOOPER_SERVE:-}" --env HOOPER_DRAIN_S=100 "$@" hooper:cpu > /dev/null
}

wait_until_healthy() {
    local state
    for _ in $(seq 240); do
        state=$(docker inspect "$NAME" --format '{{.State.Status}} {{.State.Health.Status}}')
        case $state in
            'running healthy') return ;;
            running*) sleep 0.5 ;;
            *) break ;;
        esac
    done
    docker logs "$NAME" 2>&1 | tail -5
    fail "the service is '$state', not healthy"
}

check_image() {
    local bytes
    bytes=$(docker image inspect hooper:cpu --format '{{.Size}}')
    ((bytes < MAX_BYTES)) || fail "the image has $bytes bytes, at most $MAX_BYTES are promised"
    shown "the image has $((bytes / 1000000)) MB with the shipped models, below $((MAX_BYTES / 1000000))"
    docker run --rm --network none --entrypoint python hooper:cpu -c '
import importlib.util, pathlib, shutil, sys
found = [one for one in ("torch", "transformers", "onnx", "pip", "huggingface_hub") if importlib.util.find_spec(one)]
found += [one for one in ("gcc", "cc", "g++", "make") if shutil.which(one)]
found += [str(one) for one in pathlib.Path("/opt/hooper").rglob("*") if one.is_file() and one.stat().st_mode & 0o6002]
sys.exit(", ".join(found) or 0)' || fail 'the image holds what it should not'
    shown 'no compiler, pip, torch or transformers in it, nothing set-uid or writable by everybody in Hooper'
}

check_confined() {
    run
    wait_until_healthy
    shown "healthy, with no network, a read-only root, no capabilities and $MEMORY of memory"
    # shellcheck disable=SC2086  # several tasks
    docker exec --interactive "$NAME" python - $TASKS < tests/container/ask.py || fail 'a task is not answered'
    shown 'each task is answered'
    [[ $(docker exec "$NAME" id -u) != 0 ]] || fail 'it runs as root'
    if docker exec "$NAME" sh -c 'touch /opt/hooper/x /models/x /x' 2> /dev/null; then fail 'its root can be written'; fi
    shown "runs as $(docker exec "$NAME" id), process 1 is $(docker exec "$NAME" sh -c 'tr "\0" " " < /proc/1/cmdline'); writes fail"
}

check_files() {
    # a csv file as a German Excel saves it; no shipped text is in another encoding than UTF-8
    printf 'Text;Nr\nEin sch\366ner, gro\337artiger Film;1\n' | docker run --rm --interactive --network none --read-only --tmpfs /tmp \
        hooper:cpu predict --model sentiment --top-k 1 --format csv > "$work/answer" 2> "$work/notes" || { cat "$work/notes"; fail 'a cp1252 csv is not answered'; }
    grep -q 'is read as cp1252' "$work/notes" || { cat "$work/notes"; fail 'a cp1252 csv is not known as such'; }
    shown "a cp1252 csv file is read: $(< "$work/answer")"
}

check_termination() {
    docker run --rm --interactive --network "container:$NAME" --entrypoint python hooper:cpu - \
        < tests/container/load.py > "$work/load" &
    local load=$! peak drained
    until grep -qs loaded "$work/load"; do
        kill -0 $load 2> /dev/null || fail 'the load did not start'
        sleep 0.2
    done
    peak=$(docker exec "$NAME" sh -c 'cat /sys/fs/cgroup/memory.peak || cat /sys/fs/cgroup/memory/memory.max_usage_in_bytes' 2> /dev/null || echo 0)
    docker stop --time 240 "$NAME" > /dev/null  # as long as it takes: how fast this machine is, is not what is tested
    wait $load || fail 'the load ended with an error'
    docker logs "$NAME" > "$work/log" 2>&1
    [[ $(docker inspect "$NAME" --format '{{.State.ExitCode}} {{.State.OOMKilled}}') == '0 false' ]] \
        || fail "ended with $(docker inspect "$NAME" --format '{{.State.ExitCode}}, killed for memory: {{.State.OOMKilled}}')"
    drained=$(cat "$work/load" "$work/log" | docker run --rm --interactive --network none --entrypoint python hooper:cpu -c \
        "$(< tests/container/drained.py)") || fail 'SIGTERM under load lost a request'
    shown "SIGTERM under load: $drained"
    shown "ended with 0; at most $((peak / 1048576)) MiB of memory were used, of $MEMORY"
}

check_refusals() {
    local code
    run --env HOOPER_PUBLISHED_HOST=
    code=$(docker wait "$NAME")
    [[ $code == 2 ]] || fail "without keys and on every address it ended with $code, not 2"
    shown "refuses to let everybody in without having been told to: $(docker logs "$NAME" 2>&1 | grep '^hooper:')"
    run --env HOOPER_DEVICE=cuda
    code=$(docker wait "$NAME")
    [[ $code == 2 ]] || fail "without a GPU and with HOOPER_DEVICE=cuda it ended with $code, not 2"
    shown "refuses a device that is not there: $(docker logs "$NAME" 2>&1 | grep '^hooper:')"
    run --env HOOPER_MODELS=/tmp
    code=$(docker wait "$NAME")
    [[ $code == 2 ]] || fail "without a model it ended with $code, not 2"
    shown "refuses to serve nothing: $(docker logs "$NAME" 2>&1 | grep '^hooper:')"
    if grep -q GenuineIntel /proc/cpuinfo && [[ $(uname -m) == x86_64 ]]; then
        run --env HOOPER_DEVICE=openvino
        wait_until_healthy
        shown 'OpenVINO runs without its plug-ins for other devices'
    else
        echo 'skipped OpenVINO: it takes processors of Intel only'
    fi
}

check_gpu() {
    local code=0
    build gpu
    docker run --rm --network none --env HOOPER_PUBLISHED_HOST=127.0.0.1 --read-only --tmpfs /tmp hooper:gpu > "$work/gpu" 2>&1 || code=$?
    [[ $code == 2 ]] || { tail -5 "$work/gpu"; fail "the gpu image ended with $code without a GPU, not 2"; }
    shown "gpu: $(docker image inspect hooper:gpu --format '{{.Size}}') bytes; without a GPU: $(grep '^hooper:' "$work/gpu")"
}

has_image() {
    docker image inspect "$1" > /dev/null 2>&1 || docker pull --quiet "$1" > /dev/null 2>&1
}

check_compose() {
    local services=(hooper prometheus grafana) image
    compose --profile '*' config --quiet || fail 'docker-compose.yml is not valid'
    shown 'docker-compose.yml is valid, with all of its profiles'
    for service in prometheus grafana; do
        image=$(sed -nE "s/^ *image: (.*\/$service:.*)/\1/p" docker-compose.yml)
        if ! has_image "$image"; then
            echo "skipped $service: the image $image is not available here"
            [[ $service == prometheus ]] && services=(hooper) && break
            services=(hooper prometheus)
        fi
    done
    compose --profile observability up --detach --no-build --wait --wait-timeout 180 "${services[@]}" > "$work/up.log" 2>&1 \
        || { tail -5 "$work/up.log"; compose ps --all; fail 'docker compose up does not get healthy'; }
    shown "healthy in order: $(compose ps --format '{{.Service}} ({{.Status}})' | paste -sd ' ')"
    # shellcheck disable=SC2086  # several tasks
    compose exec -T hooper python - $TASKS < tests/container/ask.py > /dev/null || fail 'a task is not answered'
    [[ " ${services[*]} " != *' prometheus '* ]] || check_prometheus
    [[ " ${services[*]} " != *' grafana '* ]] || check_grafana
    compose --profile observability down --volumes --timeout 30 > /dev/null 2>&1
}

# Asks for as long as Prometheus is asked: rates of what has stopped are zero, and shares of zero are no numbers.
check_prometheus() {
    compose exec -T --env TMPDIR=/prometheus prometheus promtool test rules /etc/prometheus/alerts_test.yml \
        /etc/prometheus/drift_test.yml > "$work/rules" 2>&1 \
        || { cat "$work/rules"; fail 'the alerts do not do what their tests say'; }
    shown 'the alerts do what their tests say'
    # shellcheck disable=SC2086  # several tasks
    while sleep 2; do compose exec -T hooper python - $TASKS < tests/container/ask.py > /dev/null 2>&1 || break; done &
    local asking=$! failed=0
    compose exec -T hooper python -c "$(< tests/container/queries.py)" http://prometheus:9090 \
        < deploy/grafana/dashboards/hooper.json > "$work/queries" || failed=1
    kill $asking && wait $asking 2> /dev/null || true
    cat "$work/queries"
    [[ $failed == 0 ]] || fail 'Prometheus lacks an answer'
    shown 'Prometheus scrapes the service, and the dashboard has its data'
}

check_grafana() {
    compose exec -T hooper python -c '
import json, urllib.request
def get(path):
    return json.load(urllib.request.urlopen("http://grafana:3000/api/" + path, timeout=10))
assert get("dashboards/uid/hooper")["dashboard"]["title"] == "Hooper"
query = "datasources/proxy/uid/prometheus/api/v1/query?query=sum(hooper_model_info)"
assert get(query)["data"]["result"], "Grafana reaches no data"' || fail 'Grafana does not show the dashboard'
    shown 'Grafana has the dashboard and reaches its data'
}

trap clean_up EXIT
docker version > /dev/null 2>&1 || fail 'no Docker engine answers; start one, or set DOCKER_HOST'
build cpu
check_image
check_files
check_confined
check_termination
check_refusals
[[ -z ${GPU:-} ]] || check_gpu
[[ $COMPOSE == none ]] || check_compose
echo 'all shown'
