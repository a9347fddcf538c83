//! JSON lines.

use arrow_array::RecordBatch;
use knarr_base::schema::Schema;

use super::sink::Sink;
use crate::rows::RowPrinter;

/// One object per line, in the order of the rows.
pub(super) struct JsonFile {
    pub(super) sink: Sink,
    printer: RowPrinter,
}

impl JsonFile {
    pub(super) fn new(schema: &Schema) -> Self {
        Self { sink: Sink::new(), printer: RowPrinter::whole(schema) }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch, rows: impl Iterator<Item = usize>) {
        for row in rows {
            self.sink.append(|out| {
                self.printer.write_row(batch, row, out);
                out.push(b'\n');
            });
        }
    }
}
