# Every command works in a fresh clone: what it needs, and no more, is installed into .venv first.
#   make install CONSTRAINTS=                                without the pinned versions
#   make install PIP_ARGS='--extra-index-url ADDRESS'         anything else that pip should be told
#   make test PYTEST_ARGS='-x tests/unit/stats/test_rng.py'   some of the tests
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
PIP_ARGS ?=
PYTEST_ARGS ?= -n 2

# One mark for each step of the installation; a later step contains the earlier ones.
CORE := .venv/.core
WITH_LLM := .venv/.with-llm
INSTALLED := .venv/.installed

# A script is an experiment if it has an EXPERIMENT; one that takes longer than a minute says slow=True in it,
# one that reads files of yours needs_data=True.
EXPERIMENTS := $(shell grep -l '^EXPERIMENT = ' experiments/*.py)
SLOW := $(shell grep -lw 'slow=True' $(EXPERIMENTS))
GIVEN := $(shell grep -lw 'needs_data=True' $(EXPERIMENTS))
QUICK := $(filter-out $(SLOW) $(GIVEN),$(EXPERIMENTS))

.PHONY: help install bias results results-slow figures certificates notebooks llm-demo test test-all benchmarks check

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

install: $(INSTALLED)  ## make .venv and install the package with everything that tests and experiments need

bias: $(CORE)  ## bias of every estimator against the number of inner steps: table, results/, figures/
	.venv/bin/python experiments/bias_vs_K.py

results: $(WITH_LLM)  ## every experiment that takes less than a minute: tables, results/, figures/
	set -e; for script in $(QUICK); do .venv/bin/python $$script; done

results-slow: $(WITH_LLM)  ## the other experiments; killed and started again, each goes on where it was
	set -e; for script in $(SLOW); do .venv/bin/python $$script; done

figures: $(WITH_LLM)  ## every figure again, from results/ alone
	.venv/bin/python experiments/figures.py

certificates:  ## prove the certificates of the claims with Python's fractions alone, two minutes; needs no .venv
	$(PYTHON) -S check_certificates.py

notebooks: $(INSTALLED)  ## execute the notebooks of figures/ from results/, two minutes
	.venv/bin/python figures/execute.py

llm-demo: $(WITH_LLM)  ## train a small language model with three estimators, some minutes on two cores
	.venv/bin/python experiments/llm_demo.py

test: $(INSTALLED)  ## the tests, one case for each family that has many
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest $(PYTEST_ARGS)

test-all: $(INSTALLED)  ## every case of every test, without those marked slow
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m 'not slow' $(PYTEST_ARGS)

benchmarks: $(INSTALLED)  ## side by side against the usual ways to compute the same numbers
	.venv/bin/python benchmarks/run.py

check: $(INSTALLED)  ## everything that a change must pass
	bash .ci/run

# pip is what `venv` installs last, so an interrupted attempt is made again; a .venv of your own is kept. Modules
# are compiled when they are first imported: most of what comes with a library never is.
$(CORE): DONE := $(CORE)
$(WITH_LLM): EXTRAS := [llm]
$(WITH_LLM): DONE := $(CORE) $(WITH_LLM)
$(INSTALLED): EXTRAS := [dev,trl,ray,dask]
$(INSTALLED): DONE := $(CORE) $(WITH_LLM) $(INSTALLED)
$(CORE) $(WITH_LLM) $(INSTALLED): pyproject.toml constraints.txt
	test -x .venv/bin/pip || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --no-compile $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.$(EXTRAS)' $(PIP_ARGS)
	touch $(DONE)
