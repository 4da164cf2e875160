//! Latency against load, as a picture: both axes logarithmic or not, as it is read best.

use std::{fmt::Write, time::Duration};

/// One line of the picture: its name, its colour, and latencies at rates.
pub struct Line {
    pub name: String,
    pub colour: &'static str,
    /// Dashed for what it is compared with.
    pub dashed: bool,
    pub points: Vec<(f64, Duration)>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 60.0;

/// An SVG. Load to the right from nothing, latency upwards in powers of ten.
#[must_use]
pub fn svg(title: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let most = points().map(|(rate, _)| *rate).fold(1.0, f64::max);
    let micros = |time: &Duration| (time.as_secs_f64() * 1e6).max(1.0);
    let least = points().map(|(_, time)| micros(time)).fold(f64::MAX, f64::min).min(100.0);
    let highest = points().map(|(_, time)| micros(time)).fold(1.0, f64::max);
    let (low, high) =
        (least.log10().floor(), highest.log10().ceil().max(least.log10().floor() + 1.0));
    let x = |rate: f64| LEFT + rate / most * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| {
        HEIGHT - BOTTOM - (value.log10() - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    );
    let mut power = low;
    while power <= high {
        let (value, at) = (10_f64.powf(power), y(10_f64.powf(power)));
        let label =
            if value >= 1000.0 { format!("{} ms", value / 1000.0) } else { format!("{value} us") };
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0
        );
        power += 1.0;
    }
    for part in 0..=5 {
        let rate = most * f64::from(part) / 5.0;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0}k</text>",
            x(rate),
            HEIGHT - BOTTOM + 20.0,
            rate / 1000.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">requests a second, sent at that rate whatever comes of them</text>",
        LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
        HEIGHT - 14.0
    );
    for (place, line) in (0_u32..).zip(lines) {
        let path: Vec<String> = line
            .points
            .iter()
            .map(|(rate, time)| format!("{:.1},{:.1}", x(*rate), y(micros(time))))
            .collect();
        let dashes = if line.dashed { " stroke-dasharray=\"5 4\"" } else { "" };
        let at = TOP + 20.0 * f64::from(place) + 10.0;
        let key = WIDTH - RIGHT + 20.0;
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{dashes}/>\n<line x1=\"{key}\" x2=\"{:.1}\" y1=\"{at}\" y2=\"{at}\" stroke=\"{}\" stroke-width=\"2\"{dashes}/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            path.join(" "),
            line.colour,
            key + 30.0,
            line.colour,
            key + 38.0,
            at + 4.0,
            line.name
        );
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_two_points_stands_within_the_picture() {
        let points = vec![(0.0, Duration::from_micros(10)), (1000.0, Duration::from_millis(1))];
        let line = Line { name: "p50".to_owned(), colour: "red", dashed: false, points };
        let picture = svg("t", &[line]);
        assert!(picture.contains("points=\"70.0,400.0 630.0,40.0\""), "{picture}");
    }
}
