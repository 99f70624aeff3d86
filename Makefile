# Two commands do all on a fresh machine: `make demo` and `make test`. No root, no Docker, no GPU.
PYTHON ?= python3
ENVIRONMENTS = $(PYTHON) requirements/environments.py
DEV = .venvs/dev/bin
ENVIRONMENTS_OF = dev ml engine-cpu engine-llama-cpp
STATE_DIR ?= .quantry
# Much of a test is waiting for processes: three at a time keep two cores busy, in 8 GB. See tests/conftest.py for who stays together.
SHARED = -n 3 --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo up down environments test test-all chaos bench bench-gateway bench-methods bench-rollouts bench-training fuzz secrets images check docs lint format lock

help: ## List these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

demo: ## From master to a served, quantized checkpoint, on real parts; stops everything at the end
	@$(ENVIRONMENTS) build light ml engine-cpu
	@.venvs/light/bin/quantry demo

up: ## Start the whole platform on this machine and print its addresses
	@$(ENVIRONMENTS) build light ml engine-cpu engine-llama-cpp
	@.venvs/light/bin/quantry up --state-dir "$(STATE_DIR)"

down: ## Stop it; the data stays
	@.venvs/light/bin/quantry down --state-dir "$(STATE_DIR)"

environments: ## What the tests run in, built and nothing more
	@$(ENVIRONMENTS) build $(ENVIRONMENTS_OF)

test: ## The tests, on the same real parts
	@$(ENVIRONMENTS) build $(ENVIRONMENTS_OF)
	@$(DEV)/pytest $(SHARED) -m "not long"

test-all: ## The tests, the long ones included; wants a C++ compiler for GPTQModel
	@$(ENVIRONMENTS) build dev ml gptqmodel engine-cpu engine-llama-cpp
	@$(DEV)/pytest $(SHARED)

chaos: ## Sixteen ways to hurt the platform, each with its count; ARGS="--only 2,5 --seed 7" for some of them
	@$(ENVIRONMENTS) build dev ml engine-cpu
	@PYTHONPATH=tests:. $(DEV)/python -m chaos $(ARGS)

fuzz: ## schemathesis with all its phases against api and registry, three seeds; ARGS="--seeds 7 --max-examples 50"
	@$(ENVIRONMENTS) build dev
	@PYTHONPATH=tests:. $(DEV)/python -m fuzz $(ARGS)

bench: ## What the engine costs, beside a peer or a floor of the same run; takes half an hour and wants an idle machine
	@$(ENVIRONMENTS) build dev ml engine-cpu
	@PYTHONPATH=. $(DEV)/python -m bench.jobs
	@PYTHONPATH=. $(DEV)/python -m bench.overhead
	@PYTHONPATH=. $(DEV)/python -m bench.artifacts

bench-training: ## What a fine-tune costs, what it learns and forgets, and where its adapter does best; half an hour, on an idle machine
	@$(ENVIRONMENTS) build dev ml engine-cpu
	@PYTHONPATH=. $(DEV)/python -m bench.finetune
	@PYTHONPATH=. $(DEV)/python -m bench.jargon
	@PYTHONPATH=. $(DEV)/python -m bench.merge

bench-methods: ## Every method on the example model: bytes, bits, seconds, memory, perplexity, KL, gate; half an hour
	@$(ENVIRONMENTS) build dev ml gptqmodel engine-cpu
	@PYTHONPATH=. $(DEV)/python -m bench.methods $(ARGS)

bench-gateway: ## What the gateway adds to a request, beside nginx and the public proxies; ten minutes, on an idle machine
	@$(ENVIRONMENTS) build dev
	@PYTHONPATH=. $(DEV)/python -m bench.gateway $(ARGS)

bench-rollouts: ## Canaries, shadows, deploys and rollbacks of real engines, and how sure verdicts are; two hours, on an idle machine
	@$(ENVIRONMENTS) build dev ml engine-cpu
	@PYTHONPATH=. $(DEV)/python -m bench.verdicts
	@PYTHONPATH=. $(DEV)/python -m bench.deploy
	@PYTHONPATH=. $(DEV)/python -m bench.shadow
	@PYTHONPATH=. $(DEV)/python -m bench.canary

bench-dashboard: ## How soon the dashboard's views are painted beside 10,000 jobs, and what a tab costs its server; wants Chromium
	@$(ENVIRONMENTS) build dev ml
	@PYTHONPATH=. $(DEV)/python -m bench.dashboard

screenshots: ## Every view of the dashboard into docs/pictures, wide and narrow; wants Chromium. ARGS="--only job --engine vllm"
	@$(ENVIRONMENTS) build dev ml engine-cpu
	@PYTHONPATH=tests:. $(DEV)/python -m screenshots $(ARGS)

secrets: ## The secrets that docker-compose.yml mounts; those that are there stay
	@$(PYTHON) docker/make_secrets.py

images: ## Build and tag every image; wants Docker. ARGS="--registry ghcr.io --tag 0.1.0 --only api,registry --push"
	@$(PYTHON) docker/build_images.py $(ARGS)

check: lint ## ruff, mypy --strict, import-linter, the documentation and the unit tests
	@$(DEV)/pytest -q $(SHARED) tests/unit

lint: ## The same without the tests
	@$(ENVIRONMENTS) build dev
	@$(DEV)/ruff check .
	@$(DEV)/ruff format --check --quiet . || { $(DEV)/ruff format --check .; exit 1; }
	@$(DEV)/mypy
	@$(DEV)/lint-imports
	@NO_MKDOCS_2_WARNING=1 $(DEV)/mkdocs build --quiet --strict

docs: ## The documentation as a site in site/, every link checked
	@$(ENVIRONMENTS) build dev
	@NO_MKDOCS_2_WARNING=1 $(DEV)/mkdocs build --quiet --strict

format: ## Format the code
	@$(DEV)/ruff check --fix --quiet .
	@$(DEV)/ruff format .

lock: ## Resolve the requirements again into hash-locked files
	@$(ENVIRONMENTS) lock
