//! The picture of a run: how fast each kernel computes against how much it computes for each byte that it moves, under
//! two lines that the device's own ceilings draw. Only products on matrix units can be above the level one, and what
//! finds its data in a cache above the sloping one.

use anyhow::anyhow;
use plotters::prelude::*;

/// A case in the picture.
pub(super) struct Point {
    /// The kernel and its shape; neighbours that share it share a colour.
    pub(super) series: String,
    /// What tells the case from others of its series.
    pub(super) label: String,
    pub(super) flops_per_byte: f64,
    pub(super) gflops: f64,
}

const SIZE: (u32, u32) = (1400, 900);

/// The picture as SVG, for ceilings in GB/s and GFLOP/s.
pub(super) fn svg(title: &str, gigabytes: f64, gflops: f64, points: &[Point]) -> anyhow::Result<String> {
    let mut svg = String::new();
    draw(SVGBackend::with_string(&mut svg, SIZE), title, gigabytes, gflops, points)
        .map_err(|error| anyhow!("cannot draw the plot: {error}"))?;
    Ok(svg)
}

fn draw<B: DrawingBackend>(
    backend: B,
    title: &str,
    gigabytes: f64,
    gflops: f64,
    points: &[Point],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let ridge = gflops / gigabytes;
    let intensities = || points.iter().map(|point| point.flops_per_byte).chain([ridge]);
    let rates = || points.iter().map(|point| point.gflops).chain([gflops]);
    let [left, bottom] =
        [intensities().fold(f64::INFINITY, f64::min) / 2.0, rates().fold(f64::INFINITY, f64::min) / 2.0];
    // The legend is on the right.
    let [right, top] = [intensities().fold(0.0, f64::max) * 8.0, rates().fold(0.0, f64::max) * 2.0];

    let area = backend.into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(15)
        .x_label_area_size(45)
        .y_label_area_size(80)
        .build_cartesian_2d((left..right).log_scale(), (bottom..top).log_scale())?;
    chart.configure_mesh().x_desc("FLOP per byte").y_desc("GFLOP/s").draw()?;
    let [memory, arithmetic] = [format!("{gigabytes:.0} GB/s read"), format!("{gflops:.0} GFLOP/s fma")];
    let roof = [(left, left * gigabytes), (ridge, gflops), (right, gflops)];
    chart.draw_series(LineSeries::new(roof, &RED))?;
    let style = || ("sans-serif", 15).into_font().color(&RED);
    let above = 1.15;
    chart.draw_series([
        Text::new(memory, (left * 1.1, (left * gigabytes).max(bottom) * 1.8), style()),
        Text::new(arithmetic, (ridge * above, gflops * above), style()),
    ])?;
    for (i, series) in points.chunk_by(|a, b| a.series == b.series).enumerate() {
        let colour = Palette99::pick(i).to_rgba();
        let dot = move |at| Circle::new(at, 4, colour.filled());
        let point = |point: &Point| {
            let label = Text::new(point.label.clone(), (6, -5), ("sans-serif", 11).into_font().color(&colour));
            EmptyElement::at((point.flops_per_byte, point.gflops)) + dot((0, 0)) + label
        };
        chart.draw_series(series.iter().map(point))?.label(&series[0].series).legend(dot);
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(("sans-serif", 13))
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()
}
