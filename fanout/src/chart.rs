//! The charts: ratios as bars, and latency and processor time by rate as curves.

use std::error::Error;
use std::path::{Path, PathBuf};

use plotters::prelude::*;

use crate::figures::{Figures, Metric, Row};
use crate::shapes::{CURVE, curve_rate};
use crate::table::number;

type Drawn = Result<(), Box<dyn Error>>;

/// Draws the ratios of processor time to `file`; the curves, if any were measured, beside it.
/// Returns the files written.
pub(crate) fn draw(figures: &Figures, file: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut written = Vec::new();
    let rows: Vec<Row> = figures
        .rows()
        .into_iter()
        .filter(|row| is_cost(row.metric) && !row.shape.starts_with(CURVE))
        .collect();
    if !rows.is_empty() {
        bars(figures, &rows, file)?;
        written.push(file.to_owned());
    }
    if figures
        .rows()
        .iter()
        .any(|row| row.shape.starts_with(CURVE))
    {
        let stem = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let curves_file = file.with_file_name(format!("{stem}-curve.svg"));
        curves(figures, &curves_file)?;
        written.push(curves_file);
    }
    Ok(written)
}

fn is_cost(metric: Metric) -> bool {
    matches!(
        metric,
        Metric::CpuPerEvent | Metric::CpuPerPublish | Metric::CpuPerConnect
    )
}

/// One group of bars for each row, one bar for each server, as ratios to the row's floor.
fn bars(figures: &Figures, rows: &[Row], file: &Path) -> Drawn {
    let servers = figures.servers();
    let bars_of = |row: &Row| -> Vec<(usize, &String, f64)> {
        let ratio = |server: &String| figures.summary(row, server)?.ratio;
        let all = servers.iter().enumerate();
        all.filter_map(|(slot, server)| Some((slot, server, ratio(server)?)))
            .collect()
    };
    // A line for each bar, and one between groups.
    let lines: usize = rows.iter().map(|row| bars_of(row).len() + 1).sum();
    let height = 70 + 24 * lines as u32;
    let area = SVGBackend::new(file, (900, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "Processor time as a ratio to the bare loop (1 = as little as can be; beyond 6 cut off)",
            ("sans-serif", 16),
        )
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(200)
        .build_cartesian_2d(0.0..WIDEST, 0.0..lines as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_max_light_lines(0)
        .x_label_formatter(&|x| format!("{x:.0}×"))
        .draw()?;
    let mut top = lines as f64;
    for row in rows {
        let bars = bars_of(row);
        let name = format!("{}, {} readers", row.shape, row.readers);
        let place = chart.backend_coord(&(0.0, top - bars.len() as f64 / 2.0 - 0.6));
        let style = ("sans-serif", 14).into_text_style(&area);
        area.draw_text(&name, &style, (14, place.1 - 6))?;
        for (line, (slot, server, ratio)) in bars.iter().enumerate() {
            let upper = top - line as f64 - 0.6;
            let bar = [(0.0, upper - 0.8), (ratio.min(WIDEST), upper)];
            chart.draw_series([Rectangle::new(bar, color(server, *slot).filled())])?;
            let end = chart.backend_coord(&(ratio.min(WIDEST - 1.4), upper));
            let label = format!("{server} {ratio:.2}×");
            let style = ("sans-serif", 12).into_text_style(&area);
            area.draw_text(&label, &style, (end.0 + 4, end.1 + 4))?;
        }
        top -= (bars.len() + 1) as f64;
    }
    let one = [(1.0, 0.0), (1.0, lines as f64)];
    chart.draw_series([PathElement::new(one, BLACK)])?;
    area.present()?;
    Ok(())
}

/// Latency by rate on the left, the share of a core by rate on the right.
fn curves(figures: &Figures, file: &Path) -> Drawn {
    let area = SVGBackend::new(file, (1100, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(550);
    panel(
        figures,
        &left,
        "Latency in ms, p50 and p99 (thick)",
        &[(Metric::P50, 1), (Metric::P99, 3)],
    )?;
    panel(figures, &right, "Share of a core", &[(Metric::CpuShare, 2)])?;
    area.present()?;
    Ok(())
}

fn panel(
    figures: &Figures,
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    metrics: &[(Metric, u32)],
) -> Drawn {
    let points = |server: &str, metric: Metric| -> Vec<(f64, f64)> {
        let rows = figures.rows();
        let of_it = rows.iter().filter(|row| row.metric == metric);
        of_it
            .filter_map(|row| {
                let rate = curve_rate(&row.shape)?;
                Some((rate, figures.summary(row, server)?.median.max(1e-3)))
            })
            .collect()
    };
    let servers = figures.servers();
    let all: Vec<(f64, f64)> = servers
        .iter()
        .flat_map(|server| {
            metrics
                .iter()
                .flat_map(|(metric, _)| points(server, *metric))
        })
        .collect();
    let over = |pick: fn(&(f64, f64)) -> f64| {
        let values = || all.iter().map(pick);
        let least = values().fold(f64::INFINITY, f64::min);
        let most = values().fold(0.0, f64::max);
        (least / 1.3)..(most * 1.3)
    };
    if all.is_empty() {
        return Ok(());
    }
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(over(|p| p.0).log_scale(), over(|p| p.1).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("events published a second")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| number(*y))
        .draw()?;
    for (slot, server) in servers.iter().enumerate() {
        for (metric, width) in metrics {
            let style = color(server, slot).stroke_width(*width);
            let line = chart.draw_series(LineSeries::new(points(server, *metric), style))?;
            if *metric == metrics[0].0 {
                let swatch = color(server, slot).stroke_width(3);
                line.label(server)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], swatch));
            }
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    Ok(())
}

/// The floors are grey, this project's server is blue.
fn color(server: &str, slot: usize) -> RGBColor {
    match server {
        "raw" => RGBColor(150, 150, 150),
        "raw-coalesce" => RGBColor(95, 95, 95),
        "hub" => RGBColor(25, 95, 190),
        "hub-durable" | "hub gzip" => RGBColor(110, 165, 230),
        "hub-no-linger" => RGBColor(205, 95, 60),
        _ => [
            RGBColor(205, 95, 60),
            RGBColor(220, 160, 60),
            RGBColor(120, 160, 70),
        ][slot % 3],
    }
}

/// Ratios beyond this are cut off, so that the small ones can be told apart.
const WIDEST: f64 = 6.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_charts_are_drawn_from_what_was_measured() {
        let mut figures = Figures::default();
        for (server, factor) in [("raw", 1.0), ("hub", 1.1)] {
            figures.server = server.to_owned();
            figures.add("single", 1000, Metric::CpuPerEvent, 2.5 * factor);
            for (rate, value) in [(1, 2.0), (100, 5.0)] {
                let shape = format!("{CURVE}{rate}/s");
                figures.add(&shape, 1000, Metric::P50, value * factor);
                figures.add(&shape, 1000, Metric::P99, value * factor * 2.0);
                figures.add(&shape, 1000, Metric::CpuShare, value * factor / 10.0);
            }
        }
        let dir = std::env::temp_dir().join(format!("fanout-chart-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let files = draw(&figures, &dir.join("ratios.svg")).unwrap();
        assert_eq!(files.len(), 2);
        let text = std::fs::read_to_string(&files[0]).unwrap();
        assert!(text.contains("hub 1.10×"), "{text}");
        assert!(
            std::fs::read_to_string(&files[1])
                .unwrap()
                .contains("polyline")
        );
        std::fs::remove_dir_all(dir).unwrap();
    }
}
