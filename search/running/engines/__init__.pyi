from .engine_local import ProcessesEndedError as ProcessesEndedError
from .engine_local import local_engine as local_engine
from .engine_ray import RayEngine as RayEngine
from .engine_ray import check_cluster as check_cluster
from .engine_ray import ray_cluster as ray_cluster
from .ray_resources import ClusterError as ClusterError
