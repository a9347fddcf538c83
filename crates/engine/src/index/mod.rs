//! Serving structures over the segments of a table: they hold no row, and can always be made again from the rows.

pub mod vector;
