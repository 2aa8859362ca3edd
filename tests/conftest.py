"""One thread per test process, as in every process of pflbench: spinning threads would steal each other's cores."""

import torch

torch.set_num_threads(1)
