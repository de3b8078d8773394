from .page import write_tables as write_tables
from .result import BenchResult as BenchResult
from .tables import bench_table as bench_table
from .whole_bench import BenchPlan as BenchPlan
from .whole_bench import bench as bench
