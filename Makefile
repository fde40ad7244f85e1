# One command a need. Everything runs in .venv, made from uv.lock (hashes checked) by the uv that is pinned here.

SHELL := /bin/bash
UV_VERSION := 0.13.9
# Another build of it: make TORCH="torch==2.13.0 --index-url URL" .venv-training/.stamp
TORCH ?= torch==2.13.0
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := --extra gateway --extra services --extra cpu --extra cli
UV := .venv-uv/bin/uv --preview-features package-conflicts
STUBS := clients/python
PROTOS := $(sort $(shell find protos/sensorium -name '*.proto'))
SERVICE_PROTOS := $(shell grep -lE '^service ' $(PROTOS))
CONTRACT := tests/contract
BUF := $(CONTRACT)/node_modules/.bin/buf

.DEFAULT_GOAL := help
.PHONY: help up demo models data test test-observability training test-training lint protos protos-check protos-release bench chaos quality test-clients node-client check-deploy clean \
  train-sentiment train-topics train-reuters train-spam train-language train-digits train-commands train-sounds voices

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

up: .venv/.serve models ## start the mesh in the foreground (ARGS="--port 9000 --replicas vision=2")
	@$(BIN)/sensorium up $(ARGS)

demo: .venv/.serve models ## start the mesh, ask it about a photo, a page, a portrait, sentences and a clip, stop it
	@$(BIN)/sensorium demo

models: .venv/.serve ## fetch the pinned weights and make the artifacts (nothing to do the second time)
	@$(BIN)/sensorium models pull

data: .venv/.serve ## fetch the pinned data sets that models are trained on (ARGS="vader mnist" for some)
	@$(BIN)/sensorium data pull $(ARGS)

test: .venv/.dev .venv-tritonclient/.stamp .venv-protos/.stamp node-client $(CONTRACT)/node_modules/.stamp models ## everything that must hold (no torch needed)
	$(BIN)/pytest $(ARGS)

training: .venv-training/.stamp ## make the environment of the training scripts, .venv-training (torch)

test-training: .venv-training/.stamp models ## short forms of every training, its export and its proof (torch; after `make test`)
	@$(BIN)/sensorium data pull
	OMP_NUM_THREADS=1 .venv-training/bin/pytest -rs --timeout 300 tests/training $(ARGS)

# Each shipped model is made again by one command: its data sets, and the module that trains it and writes its artifact below
# runs/ (ARGS="--into services/vision/models" puts it into the tree; --help tells the rest).
train-sentiment: MODULE := services.nlp.training.export_sentiment ## train the sentiment model and make its artifact (below runs/)
train-topics: MODULE := services.nlp.training.release_ngrams topics ## likewise the 20 newsgroups
train-reuters: MODULE := services.nlp.training.release_ngrams reuters ## likewise the eight classes of financial news
train-spam: MODULE := services.nlp.training.release_ngrams spam ## likewise spam or ham
train-language: MODULE := services.nlp.training.release_ngrams language ## likewise the language of a text
train-digits: MODULE := services.vision.training.release_digits ## likewise handwritten digits
train-commands: MODULE := services.speech.training.release_commands ## likewise spoken digits and letters (after `make voices`)
train-sounds: MODULE := services.speech.training.release_sounds ## likewise speech, music or noise
train-sentiment: DATA_SETS := vader minilm
train-topics: DATA_SETS := newsgroups
train-reuters: DATA_SETS := reuters
train-spam: DATA_SETS := spam-assassin
train-language: DATA_SETS := django wordfreq lingua udhr spacy-examples lid176
train-digits: DATA_SETS := mnist
train-commands train-sounds: DATA_SETS := speech
train-sentiment train-topics train-reuters train-spam train-language train-digits train-commands train-sounds: .venv-training/.stamp
	@.venv-training/bin/sensorium data pull $(DATA_SETS)
	.venv-training/bin/python -m $(MODULE) $(ARGS)

voices: .venv-training/.stamp ## synthesise the voices that spoken commands are also trained on (needs espeak-ng, flite, festival)
	@.venv-training/bin/sensorium data pull kokoro
	.venv-training/bin/python -m services.speech.training.make_voices $(ARGS)

lint: .venv/.dev protos-check ## style, types, layering, stubs up to date, a contract that breaks no caller (needs npm)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy cli gateway services shared clients/python/sensorium
	$(BIN)/lint-imports

protos: .venv-protos/.stamp ## regenerate the stubs and the gateway's descriptor set from protos/
	PATH=$$PWD/.venv-protos/bin:$$PATH .venv-protos/bin/python -m grpc_tools.protoc -Iprotos \
	  --python_out=$(STUBS) --mypy_out=quiet:$(STUBS) $(PROTOS)
	PATH=$$PWD/.venv-protos/bin:$$PATH .venv-protos/bin/python -m grpc_tools.protoc -Iprotos \
	  --grpc_python_out=$(STUBS) --mypy_grpc_out=quiet:$(STUBS) $(SERVICE_PROTOS)
	cd $(STUBS) && for folder in $$(find sensorium -name '*_pb2.py' -exec dirname {} \; | sort -u); do touch $$folder/__init__.py $$(dirname $$folder)/__init__.py; done
	.venv-protos/bin/python -m grpc_tools.protoc -Iprotos --include_imports \
	  --descriptor_set_out=gateway/descriptors.binpb $(PROTOS) google/rpc/error_details.proto

protos-check: protos $(CONTRACT)/node_modules/.stamp
	@git diff --exit-code --stat -- clients/python gateway/descriptors.binpb \
	  || { echo "stubs differ from protos/: run 'make protos' and commit the result" >&2; exit 1; }
	@$(BUF) lint . --config $(CONTRACT)/buf.yaml
	@$(BUF) breaking . --config $(CONTRACT)/buf.yaml --against $(CONTRACT)/released.binpb \
	  || { echo "protos/ breaks callers of the released contract: add beside what is there, or begin a package of a new version" >&2; exit 1; }

protos-release: protos-check ## at a release: today's protos become the contract that later changes must not break
	cp gateway/descriptors.binpb $(CONTRACT)/released.binpb

bench: .venv/.dev models ## measure speed against bare ONNX Runtime (needs h2load from nghttp2) and write .bench/bench.json
	$(BIN)/python -m tests.benchmarks.bench $(ARGS)

chaos: .venv/.dev models ## kill replicas under load for a minute, count lost calls, write .bench/chaos.json
	$(BIN)/python -m tests.benchmarks.chaos $(ARGS)

quality: .venv-training/.stamp models ## measure the trained models (hours; goes on where it stopped) and write .bench/quality.json
	@$(BIN)/sensorium data pull
	.venv-training/bin/python -m tests.quality.quality $(ARGS)

test-clients: .venv/.dev models ## the round of every client language against a live mesh, into .bench/clients.json (ARGS="--only go")
	$(BIN)/python -m tests.clients.round $(ARGS)

check-deploy: .venv/.dev .venv-deploy/.stamp ## lint images, compose file and manifests with the tools that others read them with
	$(BIN)/pytest --timeout 600 tests/deploy/checked $(ARGS)

test-observability: .venv/.dev models ## ask a live mesh by a real Prometheus for every panel and alert (needs Debian's package `prometheus`)
	$(BIN)/pytest tests/observability/check_prometheus.py $(ARGS)

clean: ## remove the environments (models and tokens stay in the state folder)
	rm -rf .venv .venv-* clients/node/node_modules clients/*/build $(CONTRACT)/node_modules

.venv-uv/.stamp: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "Sensorium needs CPython 3.11 to 3.13; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

.venv/.serve: uv.lock pyproject.toml clients/python/pyproject.toml .venv-uv/.stamp
	$(UV) sync --quiet --frozen --inexact --python $(PYTHON) $(EXTRAS)
	@touch $@

.venv/.dev: .venv/.serve
	$(UV) sync --quiet --frozen --inexact --python $(PYTHON) $(EXTRAS) --group dev
	@touch $@

.venv-training/.stamp: uv.lock pyproject.toml .venv-uv/.stamp
	UV_PROJECT_ENVIRONMENT=.venv-training $(UV) sync --quiet --frozen --inexact --python $(PYTHON) $(EXTRAS) --group dev --group training
	.venv-training/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@touch $@

.venv-protos/.stamp: uv.lock .venv-uv/.stamp
	UV_PROJECT_ENVIRONMENT=.venv-protos $(UV) sync --quiet --frozen --python $(PYTHON) --only-group protos
	@touch $@

.venv-tritonclient/.stamp: uv.lock .venv-uv/.stamp
	UV_PROJECT_ENVIRONMENT=.venv-tritonclient $(UV) sync --quiet --frozen --python $(PYTHON) --only-group tritonclient
	@touch $@

.venv-deploy/.stamp: tests/deploy/checked/requirements.txt .venv-uv/.stamp
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-deploy
	$(UV) pip install --quiet --python .venv-deploy --require-hashes --no-deps -r tests/deploy/checked/requirements.txt
	@touch $@

node-client:
	@$(MAKE) -s -C clients/node build

$(CONTRACT)/node_modules/.stamp: $(CONTRACT)/package-lock.json
	cd $(CONTRACT) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
