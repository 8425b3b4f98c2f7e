"""`python -m appliance.cli`: the same as the `delen` command."""

from appliance.cli.main import main

main()
