//! A trace as an SVG: a bar a span, below the span that it is part of, along one axis of time. It knows nothing of what the spans mean.

use std::fmt::Write;

const WIDTH: f64 = 1080.0;
/// Where bars begin; before them are the names.
const LEFT: f64 = 560.0;
const ROW: f64 = 30.0;
const TOP: f64 = 64.0;
const COLOURS: [&str; 6] = ["#3566a8", "#2a7f62", "#a8552a", "#7a4a99", "#8a7420", "#a83558"];

/// A span, in text and nanoseconds since 1970.
#[derive(Clone, Debug)]
pub struct Drawn {
    pub service: String,
    pub name: String,
    pub id: String,
    pub parent: String,
    pub begin: u64,
    pub end: u64,
}

/// The spans below `root`, each with its depth, in the order of time.
fn in_order<'a>(spans: &'a [Drawn], root: &str, depth: usize) -> Vec<(usize, &'a Drawn)> {
    let mut below: Vec<&Drawn> = spans.iter().filter(|span| span.parent == root).collect();
    below.sort_by_key(|span| span.begin);
    let with_own = |span: &'a Drawn| {
        std::iter::once((depth, span)).chain(in_order(spans, &span.id, depth + 1))
    };
    below.into_iter().flat_map(with_own).collect()
}

/// The trace below the client's span `root`.
pub fn picture(spans: &[Drawn], root: &str) -> String {
    let rows = in_order(spans, root, 0);
    let begin = rows.iter().map(|(_, span)| span.begin).min().unwrap_or_default();
    let end = rows.iter().map(|(_, span)| span.end).max().unwrap_or_default();
    let milliseconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e6;
    let whole = milliseconds(begin, end).max(0.001);
    let at = |time: u64| LEFT + (WIDTH - LEFT - 90.0) * milliseconds(begin, time) / whole;
    let mut services: Vec<&str> = rows.iter().map(|(_, span)| span.service.as_str()).collect();
    services.sort_unstable();
    services.dedup();
    let colour = |service: &str| {
        let place = services.iter().position(|own| *own == service).unwrap_or_default();
        COLOURS[place % COLOURS.len()]
    };

    let height = TOP + ROW * rows.len() as f64 + 16.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>One exchange, as a collector was sent it</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-weight=\"bold\">One exchange is one trace: {whole:.1} ms, {} spans</text>\n",
        rows.len()
    );
    for (place, service) in services.iter().enumerate() {
        let x = 16.0 + 190.0 * place as f64;
        let fill = colour(service);
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"36\" width=\"12\" height=\"12\" fill=\"{fill}\"/><text x=\"{}\" y=\"47\">{service}</text>",
            x + 18.0
        );
    }
    for (place, (depth, span)) in rows.iter().enumerate() {
        let y = TOP + ROW * place as f64;
        let (x, fill) = (at(span.begin), colour(&span.service));
        let width = (at(span.end) - x).max(2.0);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\">{}</text><rect x=\"{x:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"16\" rx=\"2\" fill=\"{fill}\">\
             <title>{}: {}</title></rect><text x=\"{:.1}\" y=\"{}\" fill=\"#555555\">{:.1} ms</text>",
            16.0 + 18.0 * *depth as f64,
            y + 17.0,
            span.name,
            y + 5.0,
            span.service,
            span.name,
            x + width + 6.0,
            y + 17.0,
            milliseconds(span.begin, span.end),
        );
    }
    svg.push_str("</svg>\n");
    svg
}
