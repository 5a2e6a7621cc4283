//! A plot as a picture that needs nothing beside it: it has its own background, light or dark as
//! the reader's system is, and its lines differ in colour, dashes and marks.

use std::fmt::Write as _;

use super::Plot;
use super::text::broken;

/// Of the picture, in pixels, as all that follows.
const WIDTH: f64 = 800.0;
/// Of the place for lines, and where it begins.
const INNER: (f64, f64) = (674.0, 300.0);
const LEFT: f64 = 92.0;
/// Between its edges and the outermost points.
const INSET: f64 = 10.0;
/// From one line of text to the next.
const LINE: f64 = 20.0;
/// Of an average character, at the size of the legend; bold ones of the title are wider.
const LETTER: f64 = 7.3;
const TITLE_LETTER: f64 = 9.4;
/// A sample of a line, in the legend.
const SAMPLE: f64 = 44.0;

/// Colours on light and on dark (after Okabe and Ito, who chose them to be told apart by
/// everybody), and dashes.
const STYLES: [(&str, &str, &str); 8] = [
    ("#0060a8", "#58b0f0", ""),
    ("#c04a00", "#ff9050", "8 4"),
    ("#007a55", "#30c898", "2 3"),
    ("#a8427f", "#e898c8", "10 3 2 3"),
    ("#3a3a3a", "#d8d8d8", "5 2"),
    ("#8a6d00", "#f0d040", "14 4"),
    ("#4b3fb0", "#a8a0ff", "1 5"),
    ("#a01c1c", "#ff7878", "6 3 1 3 1 3"),
];

/// The whole file.
pub fn plot(plot: &Plot) -> String {
    let points = || plot.series.iter().flat_map(|(_, points)| points);
    let finite = points().filter(|(x, y)| x.is_finite() && y.is_finite());
    let (xs, ys): (Vec<f64>, Vec<f64>) = finite.copied().unzip();
    let x = match plot.log_x {
        true => Axis::of_powers(&xs),
        false => Axis::even(&xs),
    };
    let y = Axis::even(&ys);
    let title = broken(&plot.title, ((WIDTH - 40.0) / TITLE_LETTER) as usize);
    let top = 24.0 + title.len() as f64 * LINE + 24.0;
    let bottom = top + INNER.1;
    let legend = Legend::new(plot);
    let height = bottom + 64.0 + legend.rows as f64 * LINE + 8.0;

    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<title>{}</title>",
        escaped(&plot.title)
    );
    style(&mut out, plot.series.len());
    let _ = writeln!(
        out,
        "<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>"
    );
    for (n, line) in title.iter().enumerate() {
        words(&mut out, "title", (20.0, 30.0 + n as f64 * LINE), line);
    }
    words(&mut out, "name", (20.0, top - 14.0), &plot.y);
    for tick in &y.ticks {
        let at = round(bottom - INSET - y.place(*tick) * (INNER.1 - 2.0 * INSET));
        let right = LEFT + INNER.0;
        let _ = writeln!(out, "<path class=\"grid\" d=\"M{LEFT} {at}H{right}\"/>");
        words(&mut out, "to", (LEFT - 10.0, at + 4.5), &number(*tick));
    }
    let spot = |(px, py): (f64, f64)| {
        let across = x.place(px) * (INNER.0 - 2.0 * INSET);
        let up = y.place(py) * (INNER.1 - 2.0 * INSET);
        (round(LEFT + INSET + across), round(bottom - INSET - up))
    };
    for tick in &x.ticks {
        let (at, _) = spot((*tick, 0.0));
        let end = bottom + 6.0;
        let _ = writeln!(out, "<path class=\"axis\" d=\"M{at} {bottom}V{end}\"/>");
        words(&mut out, "mid", (at, bottom + 22.0), &number(*tick));
    }
    let (right, down) = (LEFT + INNER.0, bottom);
    let _ = writeln!(
        out,
        "<path class=\"axis\" d=\"M{LEFT} {top}V{down}H{right}\"/>"
    );
    let middle = LEFT + INNER.0 / 2.0;
    words(&mut out, "mid", (middle, bottom + 44.0), &plot.x);
    // The first lies above the others.
    for (n, (_, points)) in plot.series.iter().enumerate().rev() {
        series(&mut out, n, points, spot);
    }
    legend.draw(&mut out, plot, bottom + 72.0);
    out.push_str("</svg>\n");
    out
}

fn style(out: &mut String, series: usize) {
    out.push_str(
        "<style>\n\
         text { font: 14px system-ui, -apple-system, \"Segoe UI\", \"DejaVu Sans\", sans-serif; \
         fill: #1a1a1a }\n\
         .title { font-size: 16px; font-weight: bold }\n\
         .to { text-anchor: end } .mid { text-anchor: middle }\n\
         .page { fill: #ffffff } .grid { stroke: #dddddd } .axis { fill: none; stroke: #1a1a1a }\n\
         .line { fill: none; stroke-width: 2.5 }\n\
         .mark { fill: none; stroke-width: 2 }\n",
    );
    let used = series.min(STYLES.len());
    for (n, (light, _, dashes)) in STYLES.iter().enumerate().take(used) {
        let dashes = match *dashes {
            "" => String::new(),
            dashes => format!("; stroke-dasharray: {dashes}"),
        };
        let _ = writeln!(out, ".s{n} {{ stroke: {light}{dashes} }}");
    }
    out.push_str(
        ".mark { stroke-dasharray: none }\n\
         @media (prefers-color-scheme: dark) {\n\
         text { fill: #e6e6e6 } .page { fill: #14171c }\n\
         .grid { stroke: #383c44 } .axis { stroke: #e6e6e6 }\n",
    );
    for (n, (_, dark, _)) in STYLES.iter().enumerate().take(used) {
        let _ = writeln!(out, ".s{n} {{ stroke: {dark} }}");
    }
    out.push_str("}\n</style>\n");
}

/// A line, interrupted where there is no number, and its marks.
fn series(
    out: &mut String,
    n: usize,
    points: &[(f64, f64)],
    spot: impl Fn((f64, f64)) -> (f64, f64),
) {
    let style = n % STYLES.len();
    let is_spot = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
    for run in points.split(|point| !is_spot(point)) {
        let mut path = String::new();
        for (at, point) in run.iter().enumerate() {
            let (x, y) = spot(*point);
            let _ = write!(path, "{}{x} {y}", if at == 0 { "M" } else { "L" });
        }
        if run.len() > 1 {
            let _ = writeln!(out, "<path class=\"line s{style}\" d=\"{path}\"/>");
        }
    }
    for point in points.iter().filter(|point| is_spot(point)) {
        mark(out, n, spot(*point));
    }
}

/// A shape of its own for each series.
fn mark(out: &mut String, n: usize, (x, y): (f64, f64)) {
    let shape = match n % STYLES.len() {
        0 => "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
        1 => "m-4 -4h8v8h-8z",
        2 => "m0 -5.5l5 9h-10z",
        3 => "m0 -6l5 6l-5 6l-5 -6z",
        4 => "m-4.5 -4.5l9 9m0 -9l-9 9",
        5 => "m0 5.5l5 -9h-10z",
        6 => "m-5.5 0h11m-5.5 -5.5v11",
        _ => "m-2.5 -5h5l2.5 5l-2.5 5h-5l-2.5 -5z",
    };
    let style = n % STYLES.len();
    let _ = writeln!(out, "<path class=\"s{style} mark\" d=\"M{x} {y}{shape}\"/>");
}

/// Names and samples, in as many columns as fit.
struct Legend {
    columns: usize,
    rows: usize,
}

impl Legend {
    fn new(plot: &Plot) -> Legend {
        let longest = plot.series.iter().map(|(name, _)| name.chars().count());
        let column = SAMPLE + 30.0 + longest.max().unwrap_or(0) as f64 * LETTER;
        let fit = (INNER.0 / column).floor() as usize;
        let columns = fit.clamp(1, plot.series.len().max(1));
        Legend {
            columns,
            rows: plot.series.len().div_ceil(columns),
        }
    }

    fn draw(&self, out: &mut String, plot: &Plot, top: f64) {
        let column = INNER.0 / self.columns as f64;
        for (n, (name, _)) in plot.series.iter().enumerate() {
            let x = round(LEFT + column * (n % self.columns) as f64);
            let y = top + LINE * (n / self.columns) as f64;
            let (end, style) = (x + SAMPLE, n % STYLES.len());
            let _ = writeln!(out, "<path class=\"line s{style}\" d=\"M{x} {y}H{end}\"/>");
            mark(out, n, (round(x + SAMPLE / 2.0), y));
            words(out, "name", (end + 8.0, y + 4.5), name);
        }
    }
}

fn words(out: &mut String, class: &str, (x, y): (f64, f64), text: &str) {
    let text = escaped(text);
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>"
    );
}

/// Where numbers stand.
struct Axis {
    /// What stands at its beginning and its end: numbers, or their logarithms.
    from: f64,
    to: f64,
    powers: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// From 0, or from the least below it.
    fn even(values: &[f64]) -> Axis {
        let least = values.iter().copied().fold(0.0, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        let most = if most > least { most } else { least + 1.0 };
        let step = step((most - least) / 6.0);
        let (first, last) = ((least / step).floor() as i64, (most / step).ceil() as i64);
        Axis {
            from: first as f64 * step,
            to: last as f64 * step,
            powers: false,
            ticks: (first..=last).map(|n| n as f64 * step).collect(),
        }
    }

    /// By the logarithm. Where there is a 0, it stands at the beginning.
    fn of_powers(values: &[f64]) -> Axis {
        let positive = || values.iter().copied().filter(|v| *v > 0.0);
        let zero = positive().count() < values.len();
        let least = positive().fold(f64::INFINITY, f64::min).log10();
        let most = positive().fold(0.0, f64::max).log10();
        let (least, most) = match least.is_finite() {
            true if most > least => (least, most),
            true => (least - 0.5, least + 0.5),
            false => (0.0, 1.0),
        };
        let span = most - least;
        let parts: &[f64] = if span <= 2.9 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let powers = (least.floor() as i32)..=(most.ceil() as i32);
        let all = powers.flat_map(|n| parts.iter().map(move |part| part * 10f64.powi(n)));
        let within = |v: &f64| (least - 1e-9..=most + 1e-9).contains(&v.log10());
        let before = if zero { span.max(1.0) / 7.0 } else { 0.0 };
        Axis {
            from: least - before,
            to: most,
            powers: true,
            ticks: zero
                .then_some(0.0)
                .into_iter()
                .chain(all.filter(within))
                .collect(),
        }
    }

    /// From 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let value = match self.powers {
            true if value <= 0.0 => self.from,
            true => value.log10(),
            false => value,
        };
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

/// The next of 1, 2, 5, 10, ...
fn step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let parts = [1.0, 2.0, 5.0, 10.0];
    let fits = |part: &f64| part * power >= least * (1.0 - 1e-9);
    parts.into_iter().find(fits).unwrap_or(10.0) * power
}

/// With commas between thousands.
fn number(value: f64) -> String {
    let text = format!("{:.6}", value.abs());
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let (whole, part) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    let sign = if value < 0.0 { "\u{2212}" } else { "" };
    format!("{sign}{out}{part}")
}

/// To tenths of a pixel.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
