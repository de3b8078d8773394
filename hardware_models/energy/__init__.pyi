from .metered_energy import RaplMeter as RaplMeter
from .metered_energy import fit_energy as fit_energy
from .metered_energy import measure_energy as measure_energy
from .table_energy import energy_ratio as energy_ratio
