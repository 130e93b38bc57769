"""The `pageferry` command: one module per subcommand, loaded when it is asked for."""
