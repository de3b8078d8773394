from .device import Compute as Compute
from .device import Device as Device
from .device import DeviceError as DeviceError
from .device import host_device as host_device
from .device import load_device as load_device
from .gains import Energy as Energy
from .gains import Gain as Gain
from .offered import capabilities as capabilities
