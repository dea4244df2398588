# Two commands are enough: `make demo` and `make test`. Both set everything up first, in .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DEMO_STAMP := .venv/.installed-demo
DOCS_STAMP := .venv/.installed-docs

.PHONY: install install-demo install-docs demo app test quick figures docs check export readme lab clean

# make BIN=/path/to/bin uses an environment that is there, as the tests do: nothing is installed into it.
ifneq ($(origin BIN),command line)
install: $(STAMP)
install-demo: $(DEMO_STAMP)
install-docs: $(DOCS_STAMP)
endif

PIP = $(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -c constraints.txt

# What the demo needs comes first; it is most of the time, so pip says what it does.
$(DEMO_STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "lgdcnn needs Python 3.11 or newer; say which with: make PYTHON=python3.11" >&2; exit 2; }
	@echo "Setting up .venv: torch and what stands beside it, some minutes, once."
	$(PYTHON) -m venv .venv
	$(PIP) -e '.[peers]'
	@touch $@

$(STAMP): $(DEMO_STAMP)
	@echo "Installing what notebooks and tests need."
	$(PIP) --quiet -e '.[notebooks,dev,peers,excel,cluster,app]'
	@# The source of the mat2vec table, apart from the environment: one test reads a file of it.
	$(PIP) --quiet --no-deps --upgrade --target .venv/share/element-sources ElementEmbeddings
	@# SMACT's rules and what it brings: without them the screening works, --neutral names the extra, and its tests are skipped.
	$(PIP) --quiet -e '.[screening]' || echo "SMACT could not be installed: its tests are skipped"
	@touch $@

# Train on the embedded data, compare, draw three figures: see lgdcnn-demo/.
demo: install-demo
	$(BIN)/lgdcnn demo

# A page on this machine to explore a model: make app MODEL=model.lgdcnn
app: install
	@test -n '$(MODEL)' || { echo "say which model: make app MODEL=model.lgdcnn (lgdcnn train makes one)" >&2; exit 2; }
	$(BIN)/lgdcnn app '$(MODEL)'

# OpenMP threads that wait busily slow each other down where several processes share the cores, and hundreds of processes
# import the package and the tests: they are compiled once, even where the shell says that nothing compiled is kept.
test quick figures: export OMP_WAIT_POLICY ?= PASSIVE
test quick figures docs: export PYTHONDONTWRITEBYTECODE :=

# As many processes as cores, file by file, those that take long first: tests/conftest.py.
# A process that dies is not started anew: with loadscope, xdist (3.8) then waits for ever. The others go on, and its test has failed.
PYTEST = $(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder --max-worker-restart 0

test: install install-docs
	$(PYTEST)

# In two minutes: is the package as the notebooks say, and do the tests of what was changed since main pass?
quick: install
	$(BIN)/ruff check .
	$(PYTEST) --quick

# Redraw every figure from results/, one at a time on each core.
figures: install
	$(BIN)/lgdcnn figures --force

# The site from the notebooks, in docs/_build/html; it reads and looks the same without a network.
docs: install install-docs
	$(BIN)/python docs/build.py

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

# What a commit must pass, short of the tests.
check: export
	$(BIN)/nbdev-clean
	$(BIN)/ruff check .

# The package from the notebooks, the README from nbs/index.ipynb.
export: install
	$(BIN)/nbdev-export
	$(MAKE) --no-print-directory readme

README ?= README.md
# Links are relative to nbs/ in the notebook and to the root in the README; bare code fences hold Python.
readme: install
	@$(BIN)/python -m nbconvert --log-level WARN --to markdown --stdout nbs/index.ipynb \
		--TagRemovePreprocessor.enabled=True --TagRemovePreprocessor.remove_input_tags=hide-input \
	| sed -e 's#](\([0-9a-z_/]*\)\(\.ipynb\)\{0,1\})#](nbs/\1\2)#g' -e 's#](\.\./#](#g' -e 's#src="\.\./#src="#g' \
	| awk '/^```$$/ && !inside { print "```python"; inside = 1; next } /^```/ { inside = !inside } { print }' \
	| cat -s > $(README)

# The clone is the root, so that pages find pictures and each other; lab/ holds how notebooks are saved. LAB takes further options.
lab: export JUPYTER_CONFIG_PATH := $(CURDIR)/lab
lab: export OUTPUTS ?=
lab: install
	$(BIN)/python -m jupyterlab --ServerApp.root_dir='$(CURDIR)' $(LAB) nbs/index.ipynb

clean:
	rm -rf .venv _docs _proc docs/_build build dist lgdcnn-demo
