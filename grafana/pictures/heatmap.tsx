// Grafana's heatmap of a classic histogram over time. The panel library has no component for it, so it is made of the library's
// parts for charts, with the colours and the layout of Grafana's own panel.

import * as chromatic from 'd3-scale-chromatic';
import uPlot from 'uplot';

import { DataFrame, formattedValueToString, getValueFormat, GrafanaTheme2, TimeRange } from '@grafana/data';
import { AxisPlacement, ScaleDirection, ScaleOrientation } from '@grafana/schema';
import { UPlotChart, UPlotConfigBuilder, VizLayout } from '@grafana/ui';

type Props = { panel: any; frames: DataFrame[]; width: number; height: number; theme: GrafanaTheme2; timeRange: TimeRange; timeZone: string };

/** Series of cumulative buckets, one a `le`, become rows of cells: what each bucket holds beyond the one below. */
function rowsOf(frames: DataFrame[]) {
  const bound = (frame: DataFrame) => Number(frame.fields[1].labels!.le.replace('Inf', 'Infinity'));
  const samples = (frame?: DataFrame) => new Map(frame?.fields[0].values.map((time, i) => [time, frame.fields[1].values[i]]));
  const sorted = frames.toSorted((a, b) => bound(a) - bound(b));
  return sorted.map((frame, i) => {
    const below = samples(sorted[i - 1]);
    const cells = [...samples(frame)].map(([time, value]) => ({ time, value: Math.max(0, value - (below.get(time) ?? 0)) }));
    return { bound: bound(frame), cells };
  });
}

/** On a dark ground Grafana turns the sequential schemes round, so that much is bright. */
function paletteOf({ scheme = 'Oranges', steps = 64, reverse = false }, theme: GrafanaTheme2): string[] {
  const colours = Array.from({ length: steps }, (_, i) => chromatic[`interpolate${scheme}`](i / (steps - 1)));
  return theme.isDark !== reverse ? colours.reverse() : colours;
}

export function Heatmap({ panel, frames, width, height, theme, timeRange, timeZone }: Props) {
  const { color = {}, cellGap = 1, filterValues, yAxis, legend } = panel.options;
  const rows = rowsOf(frames);
  const palette = paletteOf(color, theme);
  const shown = ({ value }) => value > (filterValues?.le ?? 1e-9);
  const values = rows.flatMap(({ cells }) => cells.filter(shown).map(({ value }) => value));
  const min = color.min ?? Math.min(...values);
  const max = color.max ?? Math.max(...values);
  const colourOf = (value: number) =>
    palette[Math.max(0, Math.min(palette.length - 1, Math.floor((palette.length * (value - min)) / (max - min || 1))))];

  const format = getValueFormat(yAxis?.unit ?? panel.fieldConfig.defaults.unit ?? 'short');
  const label = (edge: number) => (Number.isFinite(edge) ? formattedValueToString(format(edge, yAxis?.decimals)) : '+Inf');
  const edges = [0, ...rows.map(({ bound }) => bound)];
  const interval = frames[0].fields[0].config.interval!;

  const config = new UPlotConfigBuilder(timeZone);
  config.addScale({
    scaleKey: 'x',
    isTime: true,
    orientation: ScaleOrientation.Horizontal,
    direction: ScaleDirection.Right,
    range: () => [timeRange.from.valueOf(), timeRange.to.valueOf()],
  });
  config.addScale({
    scaleKey: 'y',
    orientation: ScaleOrientation.Vertical,
    direction: ScaleDirection.Up,
    range: () => [0, rows.length],
  });
  config.addAxis({ scaleKey: 'x', isTime: true, placement: AxisPlacement.Bottom, timeZone, theme });
  // Buckets stand at equal distances, whatever their bounds; of too many labels every second goes.
  const splits = (plot: uPlot) => {
    let kept = edges.map((_, i) => i);
    while (kept.length > 3 && (plot.height - 15) / kept.length < 10) kept = kept.filter((_, i) => i % 2 === 0);
    return kept;
  };
  config.addAxis({
    scaleKey: 'y',
    placement: AxisPlacement.Left,
    theme,
    splits: splits as any,
    values: ((_: uPlot, at: number[]) => at.map((i) => label(edges[i]))) as any,
  });
  config.addHook('draw', (plot) => {
    const { ctx } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
    ctx.clip();
    rows.forEach(({ cells }, row) => {
      const top = Math.round(plot.valToPos(row + 1, 'y', true));
      const bottom = Math.round(plot.valToPos(row, 'y', true));
      for (const cell of cells.filter(shown)) {
        const left = Math.round(plot.valToPos(cell.time - interval, 'x', true));
        const right = Math.round(plot.valToPos(cell.time, 'x', true));
        ctx.fillStyle = colourOf(cell.value);
        ctx.fillRect(left, top, right - left - cellGap, bottom - top - cellGap);
      }
    });
    ctx.restore();
  });

  const scale = (
    <VizLayout.Legend placement="bottom" maxHeight="20%">
      <div style={{ marginLeft: 25, padding: '10px 0', maxWidth: 300, fontSize: 11, lineHeight: '16px' }}>
        <div style={{ height: 9, background: `linear-gradient(90deg, ${palette.join()})` }} />
        <div style={{ display: 'flex', justifyContent: 'space-between' }}>
          {[min, max].map((value, i) => (
            <span key={i}>{formattedValueToString(getValueFormat('short')(value))}</span>
          ))}
        </div>
      </div>
    </VizLayout.Legend>
  );
  return (
    <VizLayout width={width} height={height} legend={legend?.show === false ? null : scale}>
      {(width: number, height: number) => <UPlotChart {...{ config, width, height }} data={[[timeRange.from.valueOf()]]} />}
    </VizLayout>
  );
}
