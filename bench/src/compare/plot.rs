//! A measure's figures as a drawing: a panel for each case, a bar for each server.
//!
//! Written by hand, as it is rectangles and text, and as the colours must follow the reader's light or dark
//! scheme, which is a matter of CSS.

use std::fmt::{self, Write};

use super::measure::{Case, Measure};
use super::samples::{Row, Samples, Spread};
use crate::contender::Contender;

pub(super) struct Plot<'a> {
    pub(super) measure: Measure,
    pub(super) servers: &'a [Contender],
    pub(super) cases: &'a [Case],
    pub(super) samples: &'a Samples,
    /// Panels side by side.
    pub(super) columns: usize,
}

impl Plot<'_> {
    /// Writes the panel of `case` with its upper left corner at (`x`, `y`).
    fn write_panel(&self, f: &mut fmt::Formatter<'_>, case: Case, x: usize, y: usize) -> fmt::Result {
        let spread = |server| self.samples.spread(Row::Server(server), case, |figures| Some(figures.value));
        let most = self.servers.iter().filter_map(|&server| spread(server)).map(|spread| spread.max);
        let most = most.fold(f64::MIN_POSITIVE, f64::max);
        writeln!(
            f,
            "<text class='title' x='{x}' y='{}'>{}</text>",
            y + TITLE - 8,
            Escaped(&case.to_string())
        )?;
        for (line, &server) in self.servers.iter().enumerate() {
            let Some(spread) = spread(server) else { continue };
            write_bar(f, server, spread, BAR as f64 / most, x, y + TITLE + line * LINE)?;
        }
        Ok(())
    }

    fn write_names(&self, f: &mut fmt::Formatter<'_>, y: usize) -> fmt::Result {
        let mut lines = self.servers.iter().enumerate();
        lines.try_for_each(|(line, server)| {
            let y = y + TITLE + line * LINE + BASELINE;
            let name = Escaped(server.label());
            writeln!(f, "<text class='name' x='{}' y='{y}'>{name}</text>", NAMES - 8)
        })
    }
}

fn write_bar(
    f: &mut fmt::Formatter<'_>,
    server: Contender,
    Spread { median, min, max }: Spread,
    scale: f64,
    x: usize,
    y: usize,
) -> fmt::Result {
    let class = if server.is_conet() { "bar conet" } else { "bar" };
    let (width, middle) = (median * scale, y + LINE / 2);
    let (from, to) = (x as f64 + min * scale, x as f64 + max * scale);
    writeln!(
        f,
        "<rect class='{class}' x='{x}' y='{}' width='{width:.1}' height='{}'/>\n\
         <path class='spread' d='M{from:.1} {middle}H{to:.1}'/>\n\
         <text x='{:.1}' y='{}'>{}</text>",
        y + 2,
        LINE - 4,
        to.max(x as f64 + width) + 4.0,
        y + BASELINE,
        Short(median)
    )
}

impl fmt::Display for Plot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let panel = TITLE + self.servers.len() * LINE + GAP;
        let columns = self.columns.clamp(1, self.cases.len().max(1));
        let (width, height) = (NAMES + columns * PANEL, panel * self.cases.len().div_ceil(columns) + TITLE);
        writeln!(
            f,
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' \
             height='{height}' role='img'>\n<title>{unit}</title>\n<style>{STYLE}</style>\n\
             <text x='{NAMES}' y='14'>{unit}: medians, with a line from the least to the greatest</text>",
            unit = self.measure.unit()
        )?;
        for (row, cases) in self.cases.chunks(columns).enumerate() {
            let y = TITLE + row * panel;
            self.write_names(f, y)?;
            let mut cases = cases.iter().enumerate();
            cases.try_for_each(|(column, &case)| self.write_panel(f, case, NAMES + column * PANEL, y))?;
        }
        f.write_str("</svg>\n")
    }
}

/// A figure in few characters.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value >= 10_000.0 => write!(f, "{:.0}k", value / 1000.0),
            value if value >= 100.0 => write!(f, "{value:.0}"),
            value => write!(f, "{value:.1}"),
        }
    }
}

/// Text between tags.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            // Of Markdown, in a name.
            '`' => Ok(()),
            char => f.write_char(char),
        })
    }
}

const STYLE: &str = "\
text{font:11px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}.name{text-anchor:end}\
.bar{fill:#afb8c1}.conet{fill:#2f81f7}.spread{stroke:#57606a;stroke-width:1.5;fill:none}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.bar{fill:#484f58}.conet{fill:#1f6feb}.spread{stroke:#b1bac4}}";

/// Pixels: the names' column, a panel, a bar at most, a line, a panel's title, between panels, and from a
/// line's top to its text's base.
const NAMES: usize = 230;
const PANEL: usize = 200;
const BAR: usize = 140;
const LINE: usize = 16;
const TITLE: usize = 28;
const GAP: usize = 6;
const BASELINE: usize = 12;

#[cfg(test)]
mod tests {
    use super::super::samples::Figures;
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_part_of_the_longest() {
        let case = Case::Connect { connections: 64 };
        let servers = [Contender::Epoll, Contender::ConetGo];
        let mut samples = Samples::default();
        for (server, value) in servers.into_iter().zip([20_000.0, 5000.0]) {
            samples.add(Row::Server(server), case, 1, Figures { value, ..Figures::default() });
        }
        let (measure, cases) = (Measure::Connect, &[case]);
        let plot = Plot { measure, servers: &servers, cases, samples: &samples, columns: 4 };
        let text = plot.to_string();
        assert!(text.contains("class='bar' x='230' y='58' width='140.0'"), "{text}");
        assert!(text.contains("class='bar conet' x='230' y='74' width='35.0'"), "{text}");
        assert!(text.contains(">20k</text>") && text.contains(">5000</text>"), "{text}");
        assert!(text.contains(">conet, one instance (go)</text>"), "{text}");
        assert_eq!(text.matches("<rect").count(), 2);
    }

    #[test]
    fn markup_in_a_name_is_text() {
        assert_eq!(Escaped("a<b>&c").to_string(), "a&lt;b&gt;&amp;c");
    }
}
