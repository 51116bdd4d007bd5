# Two commands do everything: `make demo` and `make test`. Both install what they need.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/plumeria/target

.PHONY: help demo test build need crash bench clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

need: # packages and toolchain; says how to get what it cannot install
	@./scripts/need

build: need ## build the plumeria binary
	cargo build --release --workspace --bin plumeria

demo: build ## mount a cluster, run the main job on it, stop it (KEEP=1 keeps the data)
	cargo build --release --quiet --workspace --bin plumeria-bench
	@./scripts/demo

test: need ## everything that CI runs
	@./scripts/job-oracles
	cargo build --release --workspace --all-targets
	cargo xtask verify
	@./scripts/mounted-tests
	@./scripts/page-in-browser --if-there
	@./scripts/readme-commands
	@./scripts/demo
	@./scripts/crash/all --rounds 1

crash: build ## kill, freeze, cut off and unplug real processes (ROUNDS=20 SEED=7)
	cargo build --release --quiet --workspace --bin plumeria-faulty
	@./scripts/crash/all --rounds $(or $(ROUNDS),3) --seed $(or $(SEED),1)

bench: need ## compare with bindfs over the local disk
	cargo xtask bench

clean: ## delete the build cache
	rm -rf "$(CARGO_TARGET_DIR)"
