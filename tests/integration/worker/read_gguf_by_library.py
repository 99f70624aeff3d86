"""What the gguf library reads of a file: ``python read_gguf_by_library.py <file>`` prints {tensor: [type, shape, begin, end]}."""

from __future__ import annotations

import json
import sys

from gguf import GGUFReader

print(
    json.dumps(
        {
            # The library gives dimensions as the file does: the innermost first.
            tensor.name: [
                tensor.tensor_type.name,
                [int(one) for one in reversed(tensor.shape)],
                int(tensor.data_offset),
                int(tensor.data_offset + tensor.n_bytes),
            ]
            for tensor in GGUFReader(sys.argv[1]).tensors
        }
    )
)
