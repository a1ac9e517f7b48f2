//! The roofline plot of a run: each kernel's speed over its arithmetic intensity, under the device's own ceilings. Only
//! matmuls on matrix units can exceed the level one, and only kernels whose data are in a cache the sloping one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use tempfile::TempDir;

use super::statistics::number;

/// A file for the plot, which appears once the plot is complete.
pub(super) struct Picture {
    path: PathBuf,
    /// Beside it; shows before any measurement that its folder can be written to.
    folder: TempDir,
}

impl Picture {
    pub(super) fn at(path: &Path) -> anyhow::Result<Self> {
        if path.is_dir() {
            bail!("cannot write {}: it is a directory", path.display());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = TempDir::new_in(parent).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path: path.to_owned(), folder })
    }

    pub(super) fn write(self, svg: &str) -> anyhow::Result<()> {
        let complete = self.folder.path().join("roofline.svg");
        fs::write(&complete, svg)
            .and_then(|()| fs::rename(&complete, &self.path))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// A case in the plot.
pub(super) struct Point {
    /// The kernel and its shape; neighbours that share it share a marker.
    pub(super) series: String,
    /// The case within its series.
    pub(super) label: String,
    pub(super) flops_per_byte: f64,
    pub(super) gflops: f64,
}

const SIZE: (u32, u32) = (1400, 800);

/// The width of the column that names the series.
const LEGEND: u32 = 370;

/// Font sizes as plotters counts them, 1.24 times SVG's.
const TITLE: u32 = 28;
const AXIS: u32 = 25;
const NAME: u32 = 21;
const LABEL: u32 = 16;

const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);
const INK: RGBColor = RGBColor(0x24, 0x29, 0x2F);
const GRID: RGBColor = RGBColor(0xD8, 0xDE, 0xE4);
const ROOF: RGBColor = RGBColor(0xD7, 0x3A, 0x49);

/// The same colours for readers who prefer dark pages; those of the roof and the series suit both.
const DARK: &str = r##"<style>@media (prefers-color-scheme: dark) {
[fill="#FFFFFF"] { fill: #0D1117 }
[fill="#24292F"] { fill: #E6EDF3 }
[stroke="#24292F"] { stroke: #E6EDF3 }
[stroke="#D8DEE4"] { stroke: #30363D }
}</style>"##;

/// Of the series, in turn; then again with the next marker.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x3B, 0x7D, 0xD8),
    RGBColor(0xE0, 0x7B, 0x00),
    RGBColor(0x2A, 0x9D, 0x4A),
    RGBColor(0x8E, 0x6B, 0xD1),
    RGBColor(0xD6, 0x5D, 0xB1),
    RGBColor(0xA0, 0x70, 0x3C),
    RGBColor(0x16, 0x9B, 0xA8),
    RGBColor(0x80, 0x88, 0x90),
];

/// The plot as SVG, for ceilings in GB/s and GFLOP/s.
pub(super) fn svg(title: &str, gigabytes: f64, gflops: f64, points: &[Point]) -> anyhow::Result<String> {
    let mut svg = String::new();
    draw(SVGBackend::with_string(&mut svg, SIZE), title, gigabytes, gflops, points)
        .map_err(|error| anyhow!("cannot draw the plot: {error}"))?;
    let inside = svg.find('>').context("SVG begins with a tag")? + 1;
    svg.insert_str(inside, DARK);
    Ok(svg)
}

fn draw<B: DrawingBackend>(
    backend: B,
    title: &str,
    gigabytes: f64,
    gflops: f64,
    points: &[Point],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let (unit, scale) = if gflops < 1000.0 { ("GFLOP/s", 1.0) } else { ("TFLOP/s", 1000.0) };
    let [slope, level] = [gigabytes / scale, gflops / scale];
    let ridge = level / slope;
    let at = |point: &Point| (point.flops_per_byte, point.gflops / scale);
    let intensities = || points.iter().map(|point| at(point).0).chain([ridge]);
    let rates = || points.iter().map(|point| at(point).1).chain([level]);
    let [left, bottom] =
        [intensities().fold(f64::INFINITY, f64::min) / 3.0, rates().fold(f64::INFINITY, f64::min) / 3.0];
    let [right, top] = [intensities().fold(0.0, f64::max) * 4.0, rates().fold(0.0, f64::max) * 3.0];

    let root = backend.into_drawing_area();
    root.fill(&PAPER)?;
    let (plot, legend) = root.split_horizontally(SIZE.0 - LEGEND);
    let mut chart = ChartBuilder::on(&plot)
        .caption(title, ("sans-serif", TITLE, &INK))
        .margin(20)
        .x_label_area_size(65)
        .y_label_area_size(95)
        .build_cartesian_2d((left..right).log_scale(), (bottom..top).log_scale())?;
    let tick = |value: &f64| format!("{value}");
    chart
        .configure_mesh()
        .x_desc("arithmetic intensity (FLOP/byte)")
        .y_desc(format!("speed ({unit})"))
        .x_label_formatter(&tick)
        .y_label_formatter(&tick)
        .label_style(("sans-serif", NAME, &INK))
        .axis_desc_style(("sans-serif", AXIS, &INK))
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;

    // From the point at which the slope enters the plot.
    let start = left.max(bottom / slope);
    let roof = [(start, start * slope), (ridge, level), (right, level)];
    chart.draw_series(LineSeries::new(roof, ROOF.stroke_width(2)))?;
    let pixel = |point: &Point| chart.backend_coord(&at(point));
    let mut labels = Labels { taken: points.iter().map(|point| Area::around(pixel(point))).collect() };
    let [read, fma] = [gigabytes, level].map(|rate| number(Some(rate), None));
    let middle = (start * ridge).sqrt();
    for (text, end) in
        [(format!("{read} GB/s read"), (middle, middle * slope)), (format!("{fma} {unit} fma"), (right, level))]
    {
        // To the left of its end, a text above either line does not cross it.
        let style = ("sans-serif", NAME, &ROOF).into_text_style(&root).pos(Pos::new(HPos::Right, VPos::Bottom));
        let (x, y) = chart.backend_coord(&end);
        labels.taken.push(Area([x - 8 - width(&text, NAME), y - 6 - NAME as i32, x - 8, y - 6]));
        root.draw(&Text::new(text, (x - 8, y - 6), style))?;
    }

    let series: Vec<_> = points.chunk_by(|a, b| a.series == b.series).collect();
    let (_, height) = legend.dim_in_pixel();
    let n_series = series.len();
    let pitch = ((height - 100) / n_series.max(1) as u32).min(28) as i32;
    for (i, points) in series.into_iter().enumerate() {
        for point in points {
            let (x, y) = pixel(point);
            mark(&root, i, (x, y))?;
            if let Some(corner) = labels.place((x, y), &point.label) {
                let style = ("sans-serif", LABEL, &COLOURS[i % COLOURS.len()]).into_text_style(&root);
                root.draw(&Text::new(point.label.clone(), corner, style))?;
            }
        }
        let line = 70 + pitch * i as i32;
        mark(&legend, i, (12, line))?;
        let style = ("sans-serif", NAME, &INK).into_text_style(&legend).pos(Pos::new(HPos::Left, VPos::Center));
        legend.draw(&Text::new(points[0].series.clone(), (26, line), style))?;
    }
    let style = ("sans-serif", LABEL, &INK).into_text_style(&legend);
    let note = "labels: rows, or rows of positions";
    legend.draw(&Text::new(note, (7, 70 + pitch * n_series as i32), style))?;
    root.present()
}

/// The marker of a series.
fn mark<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    series: usize,
    (x, y): (i32, i32),
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let style = COLOURS[series % COLOURS.len()].filled();
    match series / COLOURS.len() % 3 {
        0 => area.draw(&Circle::new((x, y), 5, style)),
        1 => area.draw(&TriangleMarker::new((x, y), 7, style)),
        _ => area.draw(&Rectangle::new([(x - 5, y - 5), (x + 5, y + 5)], style)),
    }
}

/// The approximate width of a text: in most fonts, digits and letters are half as wide as high.
fn width(text: &str, size: u32) -> i32 {
    text.len() as i32 * size as i32 / 2
}

/// A rectangle in pixels: left, top, right, bottom.
#[derive(Clone, Copy)]
struct Area([i32; 4]);

impl Area {
    fn around((x, y): (i32, i32)) -> Self {
        Self([x - 6, y - 6, x + 6, y + 6])
    }

    fn overlaps(self, Self([left, top, right, bottom]): Self) -> bool {
        self.0[0] < right && left < self.0[2] && self.0[1] < bottom && top < self.0[3]
    }
}

/// Finds room for the labels of points.
struct Labels {
    taken: Vec<Area>,
}

impl Labels {
    /// The upper left corner of a text near a point such that it covers nothing; `None` if there is no room.
    fn place(&mut self, (x, y): (i32, i32), text: &str) -> Option<(i32, i32)> {
        let (width, height) = (width(text, LABEL), LABEL as i32);
        let [beside, before] = [x + 9, x - 9 - width];
        let [above, level, below] = [y - 8 - height, y - height / 2, y + 8];
        let centre = x - width / 2;
        let corners = [
            (beside, level),
            (before, level),
            (centre, above),
            (centre, below),
            (beside, above),
            (beside, below),
            (before, above),
            (before, below),
        ];
        let boxed = |&(x, y): &(i32, i32)| Area([x, y, x + width, y + height]);
        let (right, bottom) = ((SIZE.0 - LEGEND) as i32, SIZE.1 as i32);
        let is_free = |corner: &(i32, i32)| {
            let Area([_, _, end, foot]) = boxed(corner);
            end < right && foot < bottom && !self.taken.iter().any(|&taken| taken.overlaps(boxed(corner)))
        };
        let corner = corners.into_iter().find(is_free)?;
        self.taken.push(boxed(&corner));
        Some(corner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_overlap() {
        let points = [(100, 100), (104, 102), (400, 100), (102, 99)];
        let mut labels = Labels { taken: points.map(Area::around).to_vec() };
        let corners = points.map(|point| labels.place(point, "8 of 512"));
        assert!(corners[0].is_some() && corners[2] == Some((409, 92)), "{corners:?}");
        let placed = &labels.taken[points.len()..];
        assert_eq!(placed.len(), corners.iter().flatten().count());
        for (i, a) in placed.iter().enumerate() {
            assert!(labels.taken.iter().enumerate().all(|(j, b)| j == points.len() + i || !a.overlaps(*b)));
        }
        // Crowded points lose their labels.
        let crowd = [(50, 50); 20].map(|point| labels.place(point, "1"));
        assert!(crowd.iter().any(Option::is_none));
    }

    #[test]
    fn axes_and_roofs_have_units() {
        let point = Point { series: "some 8x8".to_owned(), label: "1".to_owned(), flops_per_byte: 2.0, gflops: 5e3 };
        let svg = svg("a GPU", 400.0, 20_000.0, &[point]).expect("a picture");
        let texts: Vec<_> = svg.lines().collect();
        for text in [
            "arithmetic intensity (FLOP/byte)",
            "speed (TFLOP/s)",
            "400 GB/s read",
            "20.0 TFLOP/s fma",
            "some 8x8",
            "1",
        ] {
            assert!(texts.contains(&text), "{text}: {svg}");
        }
        assert!(svg.contains("prefers-color-scheme: dark"));
    }
}
