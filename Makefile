# The scripts do the work, for machines without make.
.PHONY: demo deb test test-fast test-system soak check format bench

demo:       ## hear a question answered
	@scripts/demo $(ARGS)

test:       ## all tests, on the real models
	@scripts/test $(ARGS)

test-fast:  ## the tests that need neither models nor minutes
	@scripts/test-fast $(ARGS)

check:      ## format, lint, types, shell, Dockerfiles, YAML
	@scripts/check

format:     ## format the code
	@scripts/format

bench:      ## measure beside the official servers
	@scripts/bench $(ARGS)

deb:        ## a package for this Debian or Ubuntu, in dist/
	@scripts/deb

test-system: ## the service on a real systemd (needs root)
	@scripts/test-system $(ARGS)

soak:       ## the daemon among hostile clients, for ten minutes
	@scripts/soak $(ARGS)
