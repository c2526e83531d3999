"""`python -m elasticpypi` is `elasticpypi`."""

from elasticpypi.cli.main import main

main()
