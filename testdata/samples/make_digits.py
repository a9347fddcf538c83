"""Makes digits.parquet from scikit-learn's copy of the UCI handwritten digits.

    python3 -m venv venv && venv/bin/pip install scikit-learn pyarrow
    venv/bin/python make_digits.py

Columns: id int64 (0..1796, the place in the data set), digit int64 (0..9), image fixed_size_list<float32>[64]
(8 x 8 pixels, row by row, 0..16).
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits

digits = load_digits()
pixels = pa.array(digits.data.astype(np.float32).ravel())
table = pa.table(
    {
        "id": pa.array(np.arange(len(digits.target), dtype=np.int64)),
        "digit": pa.array(digits.target.astype(np.int64)),
        "image": pa.FixedSizeListArray.from_arrays(pixels, 64),
    }
)
pq.write_table(table, "digits.parquet", compression="zstd")
print(table.num_rows, "rows")
