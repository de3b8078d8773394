from .measured_memory import measure_memory as measure_memory
from .peak import ONNX_RUNTIME as ONNX_RUNTIME
from .peak import peak_activation_bytes as peak_activation_bytes
from .weight_memory import weight_memory_bytes as weight_memory_bytes
