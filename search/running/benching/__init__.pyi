from .whole_bench import BenchPlan as BenchPlan
from .whole_bench import BenchResult as BenchResult
from .whole_bench import bench as bench
