# The commands of this project; each works on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
DEMO := outputs/demo
DEMO_METHODS := supervised unimatch prevmatch

# What `make reproduce-table` runs; the others of METHODS (or all), ENCODERS, SPLITS, SEEDS default to the published
# table. ORACLE=1 adds runs with the labels of all images.
RECIPE ?= shapes
RESULTS_DIR ?= results

.PHONY: install demo reproduce-table small-data-table test test-all soak bench bench-gpu check clean

install: .venv/installed

# The longest first, as many runs side by side as there are cores, one thread each: two threads on a network this small
# only wait for each other, and one gives the same numbers however many cores there are.
demo: export OMP_NUM_THREADS = 1
demo: .venv/installed
	@rm -rf $(DEMO) && mkdir -p $(DEMO)
	@echo "training $(DEMO_METHODS), two to three minutes on two cores; all they say is in $(DEMO)/METHOD.log"
	@printf '%s\n' prevmatch unimatch supervised | xargs -P $$($(BIN)/python -c 'import os; print(os.cpu_count())') -I METHOD sh -c '\
	  $(BIN)/accelerate launch --config_file accelerate_configs/cpu.yaml recipes/shapes.py --method METHOD \
	    --output_dir $(DEMO)/METHOD 2>&1 | tee $(DEMO)/METHOD.log | awk "/^([0-9]+%|best|error)/ {print \"METHOD: \" \$$0; fflush()}"'
	@$(BIN)/prevmatch compare $(addprefix $(DEMO)/,$(DEMO_METHODS)) --output_dir $(DEMO)/comparison

reproduce-table: .venv/installed
	@$(BIN)/prevmatch table --recipe recipes/$(RECIPE).py --results_dir $(RESULTS_DIR) \
	  $(if $(DATA_DIR),--data_dir $(DATA_DIR)) $(if $(METHODS),--methods $(METHODS)) \
	  $(if $(ENCODERS),--encoders $(ENCODERS)) $(if $(SPLITS),--splits $(SPLITS)) $(if $(SEEDS),--seeds $(SEEDS)) \
	  $(if $(ORACLE),--oracle) $(if $(ARGS),--args="$(ARGS)") $(if $(LAUNCH),--launch="$(LAUNCH)") \
	  $(if $(ONLY_PLAN),--only_plan)

# What unlabelled images bring: labels only, an EMA teacher alone and PrevMatch at equal steps, and the labels of all
# images. On shapes, and where a folder is given on CamVid (CAMVID=) and own data (DATA_DIR=, SPLITS=).
SMALL := results/small_data
SMALL_METHODS := supervised mean_teacher prevmatch
SMALL_ARGS := --epochs 10 --eval_every 5 --panel_every 0
small-data-table: export OMP_NUM_THREADS = 1
small-data-table: .venv/installed
	@$(BIN)/prevmatch table --recipe recipes/shapes.py --oracle --methods $(SMALL_METHODS) --results_dir $(SMALL) \
	  $(if $(ARGS),--args="$(ARGS)")
	@$(if $(CAMVID),$(BIN)/prevmatch table --recipe recipes/camvid.py --data_dir $(CAMVID) --splits 1_16 --oracle \
	  --methods $(SMALL_METHODS) --results_dir $(SMALL) --args="$(SMALL_ARGS) --epoch_images 1600 --image_size 240 \
	  --crop_size 129 --decoder_channels 64 $(ARGS)")
	@$(if $(DATA_DIR),$(BIN)/prevmatch table --recipe recipes/custom.py --data_dir $(DATA_DIR) --splits $(SPLITS) \
	  --oracle --methods $(SMALL_METHODS) --results_dir $(SMALL) --args="$(SMALL_ARGS) --epoch_images 1000 $(ARGS)")
	@cp $(SMALL)/TABLE.md results/SMALL_DATA.md

# Every behaviour once: tests side by side, each on one thread, one more than there are cores, as some only wait.
WORKERS := $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
test: export OMP_NUM_THREADS = 1
test: .venv/installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# And then the variations of them: other data sets, formats, signals.
test-all: export OMP_NUM_THREADS = 1
test-all: test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m 'variation and not soak'

soak: .venv/installed-dev
	$(BIN)/python -m pytest -m soak
	$(BIN)/python tests/faults/soak.py --minutes 8

bench: .venv/installed
	$(BIN)/python benchmarks/bench.py

# At most eight minutes on a machine with a GPU; ARGS are benchmarks/on_gpu.py's.
bench-gpu: .venv/installed
	$(BIN)/python benchmarks/on_gpu.py $(ARGS)

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv outputs build *.egg-info .pytest_cache .mypy_cache .ruff_cache
