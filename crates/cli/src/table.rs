//! Columns: lines of tab-separated cells, aligned with blanks.
//!
//! The rules are those of Go's tabwriter: a cell ends with a tab, so the text
//! after a line's last tab is in no column; neighbouring lines with a cell in a
//! column share its width. It must not know what the cells mean.

/// The narrowest column and the blanks between two.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Fewest characters of a column, padding included.
    pub min_width: usize,
    /// Blanks after the longest cell of a column.
    pub padding: usize,
}

/// The layout of every list.
pub const LIST: Layout = Layout {
    min_width: 10,
    padding: 3,
};

/// Aligns the cells of a text.
pub fn align(text: &str, layout: Layout) -> String {
    let lines: Vec<Vec<&str>> = text
        .split('\n')
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<Vec<usize>> = lines
        .iter()
        .map(|line| vec![0; line.len().saturating_sub(1)])
        .collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut start = 0;
        while start < lines.len() {
            let length = widths[start..]
                .iter()
                .take_while(|line| line.len() > column)
                .count();
            if length == 0 {
                start += 1;
                continue;
            }
            let block = start..start + length;
            let longest = lines[block.clone()]
                .iter()
                .map(|line| width(line[column]))
                .max();
            let shared = (longest.unwrap_or(0) + layout.padding).max(layout.min_width);
            for line in &mut widths[block] {
                line[column] = shared;
            }
            start += length;
        }
    }
    let mut aligned = String::with_capacity(text.len() * 2);
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            aligned.push('\n');
        }
        for (column, cell) in line.iter().enumerate() {
            aligned.push_str(cell);
            if let Some(&shared) = widths[index].get(column) {
                aligned.extend(std::iter::repeat_n(' ', shared - width(cell)));
            }
        }
    }
    aligned
}

/// A cell's width in characters.
fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tight(text: &str) -> String {
        align(
            text,
            Layout {
                min_width: 0,
                padding: 1,
            },
        )
    }

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        assert_eq!(tight("a\tb\tc\nlonger\tx\ty\n"), "a      b c\nlonger x y\n");
    }

    #[test]
    fn the_last_cell_is_not_padded() {
        assert_eq!(tight("a\tlast\nbb\tx\n"), "a  last\nbb x\n");
    }

    #[test]
    fn an_empty_last_cell_leaves_the_blanks_before_it() {
        assert_eq!(tight("a\t\nbb\t\n"), "a  \nbb \n");
    }

    #[test]
    fn a_line_without_the_cell_ends_a_column() {
        assert_eq!(
            tight("a\tb\tc\nx\nlonger\tb\tc\n"),
            "a b c\nx\nlonger b c\n"
        );
        assert_eq!(
            tight("a\tb\tc\nlonger\tz\na\tb\tc\n"),
            "a      b c\nlonger z\na      b c\n"
        );
    }

    #[test]
    fn lists_have_columns_of_ten_at_least_and_three_blanks_between() {
        assert_eq!(
            align("TAG\tIMAGE ID\nlatest\te12aa8d11246\n", LIST),
            "TAG       IMAGE ID\nlatest    e12aa8d11246\n"
        );
        assert_eq!(
            align("IMAGE ID\tTAG\te\ne12aa8d11246\tlatest\te\n", LIST),
            "IMAGE ID       TAG       e\ne12aa8d11246   latest    e\n"
        );
    }

    #[test]
    fn widths_count_characters_not_bytes() {
        assert_eq!(tight("…\tb\nab\tb\n"), "…  b\nab b\n");
    }
}
