# Thin calls into cmake, pip and npm. On a fresh Debian 12 only `make` itself is needed; each target installs what it lacks.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run build build-tests web test test-asan test-tsan bench format clean deps deps-test deps-bench venv venv-test venv-bench web-test

help:            ## this list
	@sed -n 's/^\([a-z-]*\): .*## \(.*\)/  make \1	\2/p; s/^\([a-z-]*\):  *## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | sort -u | expand -t 22

run: build venv web  ## install what is missing, build, serve on 127.0.0.1:52425 with the data in ./.myelin
	@exec build/myelin serve --data ./.myelin --show-link $(ARGS)

build: deps      ## build/myelin
	@scripts/step build scripts/build release myelin

build-tests: deps
	@scripts/step 'build, tests too' scripts/build release

web: deps        ## the page at /app/, built into web/dist
	@scripts/step 'page' scripts/web

test: deps-test build-tests web venv-test web-test  ## all tests: C++, Python, against the running server
	@scripts/test

test-asan: deps  ## C++ unit tests with the address and undefined behaviour sanitizers
	@scripts/step 'build (asan)' scripts/build asan
	@scripts/step 'C++ unit tests (asan)' ctest --test-dir build-asan --output-on-failure --no-tests=error

test-tsan: deps  ## C++ unit tests with the thread sanitizer
	@scripts/step 'build (tsan)' scripts/build tsan
	@scripts/step 'C++ unit tests (tsan)' ctest --test-dir build-tsan --output-on-failure --no-tests=error

bench: deps-bench build venv-bench  ## the table: this server beside both NEST Servers
	@bench/run $(ARGS)

format:          ## format the C++ sources
	@$(if $(SKIP_DEPS),,scripts/deps format)
	@find src bench -name '*.cpp' -o -name '*.hpp' -o -name '*.c' -o -name '*.h' | xargs -r clang-format -i

clean:           ## remove what was built and the environments; data in .myelin stays
	@rm -rf build build-asan build-tsan build-debug .venv .venv-test .venv-peer .venv-peer3 .venv-neuroapi tests/web/node_modules tests/oidc/node_modules web/node_modules web/dist

deps:            ## Debian packages for building and running
	@$(if $(SKIP_DEPS),,scripts/step 'Debian packages' scripts/deps build)

deps-test:
	@$(if $(SKIP_DEPS),,scripts/step 'Debian packages, tests too' scripts/deps build test)

deps-bench:
	@$(if $(SKIP_DEPS),,scripts/step 'Debian packages, bench too' scripts/deps build bench)

venv: deps       ## .venv: the simulators, NEST Desktop and this project's Python package
	@scripts/step 'Python environment' scripts/venv .venv requirements/engines.txt --project

venv-test: venv
	@scripts/step 'Python environments of the tests' sh -c ' \
	  scripts/venv .venv-test requirements/test.txt --project --with .venv && \
	  scripts/venv .venv-peer requirements/peer.txt && \
	  scripts/venv .venv-peer3 requirements/peer3.txt'

venv-bench: venv-test
	@scripts/step 'Python environment of the bench' scripts/venv .venv-neuroapi requirements/peer-neuroapi.txt

web-test:
	@scripts/step 'npm packages of the tests' scripts/web-test-install
