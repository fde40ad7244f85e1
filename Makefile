# One command a need. Everything runs in .venv, made from uv.lock (hashes checked) by the uv that is pinned here.

SHELL := /bin/bash
UV_VERSION := 0.13.9
PYTHON ?= python3
BIN := .venv/bin
UV := .venv-uv/bin/uv --preview-features package-conflicts
# Proto files in the order of their names; the vendored google/* come from googleapis-common-protos in Python.
PROTOS := $(sort $(shell find protos/sensorium -name '*.proto'))
STUBS := clients/python

.PHONY: protos
protos: .venv-protos/.stamp ## regenerate stubs and the descriptor set from protos/
	PATH=$$PWD/.venv-protos/bin:$$PATH .venv-protos/bin/python -m grpc_tools.protoc -Iprotos --python_out=$(STUBS) --grpc_python_out=$(STUBS) --mypy_out=quiet:$(STUBS) \
	  --mypy_grpc_out=quiet:$(STUBS) $(PROTOS)
	.venv-protos/bin/python -m grpc_tools.protoc -Iprotos --include_imports --descriptor_set_out=gateway/descriptors.binpb \
	  $(PROTOS) google/rpc/error_details.proto

.venv-uv/.stamp:
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	touch $@

.venv-protos/.stamp: uv.lock .venv-uv/.stamp
	UV_PROJECT_ENVIRONMENT=.venv-protos $(UV) sync --quiet --frozen --only-group protos
	touch $@
