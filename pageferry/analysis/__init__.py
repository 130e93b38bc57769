"""What a flow trace says: DuckDB does the joins, on the Parquet files of one migration."""
