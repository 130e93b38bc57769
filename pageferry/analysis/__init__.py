"""What a flow says: DuckDB does the joins, on the Parquet files of one migration."""
