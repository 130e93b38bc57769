# pageferry: `make demo` sets everything up and runs the main job, `make test` runs the tests.
# Kernels are compiled before tests and not within one: that takes minutes on a machine that is busy.
VENV := .venv
BIN := $(VENV)/bin
MINUTES ?= 5
# One more than there are cores: some tests wait for a host and not for the processor.
WORKERS ?= $(shell n=$$(($$(nproc) + 1)); echo $$((n < 4 ? n : 4)))

.PHONY: help setup demo answer answer-quick test fuzz test-isolation test-containers test-machines \
    test-observability kind-test fidelity image check \
    format docs docs-check dashboards dashboards-check proto proto-check views views-check bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

$(VENV)/ready: pyproject.toml constraints.txt scripts/make-venv
	@scripts/make-venv $(VENV)

setup: $(VENV)/ready ## make the virtual environment

demo: setup ## migrate the redis trace with groups of 1 and of 64, tables side by side
	@$(BIN)/pageferry demo

answer: setup ## ask the question of 2009: a sweep of 1668 migrations, its tables and report
	@$(BIN)/pageferry sweep examples/answer.toml --out out/answer
	@$(BIN)/python -m examples.answer_tables out/answer
	@$(BIN)/pageferry report out/answer

answer-quick: setup ## a quarter of it in five minutes
	@$(BIN)/pageferry sweep examples/answer-quick.toml --out out/answer-quick
	@$(BIN)/python -m examples.answer_tables out/answer-quick
	@$(BIN)/pageferry report out/answer-quick

test: setup ## run the everyday tests
	@$(BIN)/python -m paging_core.warm
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

fuzz: setup ## feed readers of foreign input for MINUTES=5 (SEED=1 repeats; TARGETS="guest flow")
	@$(BIN)/python -m paging_core.warm
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(TARGETS)

test-isolation: setup ## overwrite a million words of guests that are then run (10 minutes at most)
	PAGEFERRY_ISOLATION_WORDS=$${PAGEFERRY_ISOLATION_WORDS:-1000000} \
	    $(BIN)/pytest -n 2 -rP tests/isolation

fidelity: setup ## hold the model to this machine's KVM: 5,000 rounds, every count and byte (10 minutes at most)
	@$(BIN)/python -m paging_core.warm
	PAGEFERRY_FIDELITY_ROUNDS=$${PAGEFERRY_FIDELITY_ROUNDS:-5000} \
	    timeout 10m $(BIN)/pytest -n 2 -rs tests/fidelity

test-observability: setup ## run the tests that need a real Prometheus: alerts and panels over migrations
	$(BIN)/pytest tests/observability/live_*.py

check: setup proto-check views-check docs-check dashboards-check ## lint, format, types, imports, generated stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## put everything in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: setup ## generate the stubs from proto/
	$(BIN)/python proto/generate.py

image: setup ## build the container images (needs a Docker engine; see deploy/image/build)
	deploy/image/build

test-containers: setup ## test the compose file's services on a real Docker engine
	@scripts/with-docker sh -c 'deploy/image/build && $(BIN)/pytest tests/containers'

kind-test: setup ## the whole journey in a kind cluster (needs kind)
	deploy/kind/test

test-machines: setup ## test two machines, as network namespaces with a slow wire (needs root)
	$(BIN)/pytest tests/machines

docs: setup ## generate the pages of docs/ that come from the code
	$(BIN)/python docs/generate.py

docs-check: setup ## compare them with the code
	$(BIN)/python docs/generate.py --check

dashboards: setup ## generate the dashboards in deploy/grafana
	$(BIN)/python -m deploy.grafana

dashboards-check: setup ## compare them with the code
	$(BIN)/python -m deploy.grafana --check

proto-check: setup ## compare the stubs with proto/
	$(BIN)/python proto/generate.py --check

views: setup ## generate the types of the kernels' records from their dtypes
	$(BIN)/python -m paging_core.record_views

views-check: setup ## compare them with the dtypes
	$(BIN)/python -m paging_core.record_views --check

bench: setup ## print tables of ratios taken side by side
	$(BIN)/python -m bench

clean: ## remove the virtual environment and what was built
	rm -rf $(VENV) build dist out
