// The page of a dashboard: answers of Prometheus become data frames, and Grafana's own components draw them.
// What is here beside those components stands in Grafana's application, which is no library: the grid, what its panel plugins
// take as defaults, and how its Prometheus data source names things.

import { ReactNode, useEffect } from 'react';
import { flushSync } from 'react-dom';
import { createRoot } from 'react-dom/client';
import { lastValueFrom } from 'rxjs';

import {
  applyFieldOverrides,
  cacheFieldDisplayNames,
  createTheme,
  DataFrame,
  dateTime,
  DisplayValueAlignmentFactors,
  Field,
  FieldConfigOptionsRegistry,
  FieldDisplay,
  FieldType,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
  identityOverrideProcessor,
  standardTransformers,
  standardTransformersRegistry,
  ThemeContext,
  TimeRange,
  transformDataFrame,
  VizOrientation,
} from '@grafana/data';
import { BigValue, GlobalStyles, Icon, PanelChrome, TimeSeries, ToolbarButton, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';

import { Heatmap } from './heatmap';

const { dashboard, variables, answers, from, to, range, width } = window.picture;
const theme = createTheme({ colors: { mode: 'dark' } });
const timeZone = 'utc';
const timeRange: TimeRange = { from: dateTime(from), to: dateTime(to), raw: { from: `now-${range}`, to: 'now' } };
const replaceVariables = (text: string) => text.replace(/\$\{?(\w+)\}?/g, (whole, name) => variables[name] ?? whole);

// ---- from answers to frames ----

const number = (text: string) => (/inf/i.test(text) ? (text.startsWith('-') ? -Infinity : Infinity) : parseFloat(text));

/** One series as a frame, with the name that its query's legend gives it. */
function seriesFrame({ target, query, step }, { metric, values, value }): DataFrame {
  const { __name__, ...labels } = metric;
  const rows = values ?? [value];
  const legend = target.legendFormat && target.legendFormat !== '__auto' ? target.legendFormat : undefined;
  const name =
    legend?.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => metric[label] ?? '') ??
    (Object.keys(labels).length === 0 ? (__name__ ?? query) : undefined);
  return {
    refId: target.refId,
    name,
    length: rows.length,
    fields: [
      { name: 'Time', type: FieldType.time, config: { interval: step * 1000 }, values: rows.map(([time]) => time * 1000) },
      {
        name: 'Value',
        type: FieldType.number,
        labels,
        config: { displayNameFromDS: name },
        values: rows.map(([, sample]) => number(sample)),
      },
    ],
  };
}

/** A query's answer as one table: time, a column a label, value. */
function tableFrame({ target, result }, single: boolean): DataFrame {
  const rows = result.flatMap(({ metric, values, value }) => (values ?? [value]).map(([time, sample]) => ({ metric, time, sample })));
  const names = [...new Set(rows.flatMap(({ metric }) => Object.keys(metric)))].sort() as string[];
  const column = (name: string, type: FieldType, values: unknown[]): Field => ({ name, type, config: {}, values });
  return {
    refId: target.refId,
    length: rows.length,
    fields: [
      column('Time', FieldType.time, rows.map(({ time }) => time * 1000)),
      ...names.map((name) => column(name, FieldType.string, rows.map(({ metric }) => metric[name] ?? ''))),
      column(single ? 'Value' : `Value #${target.refId}`, FieldType.number, rows.map(({ sample }) => number(sample))),
    ],
  };
}

// Some stand there twice, by an old and a new name.
const transformers = new Map(Object.values(standardTransformers).map((transformation: any) => [transformation.id, transformation]));
standardTransformersRegistry.setInit(() =>
  [...transformers.values()].map((transformation): any => ({ id: transformation.id, name: transformation.name, transformation }))
);

async function framesOf(panel): Promise<DataFrame[]> {
  const asked = answers[panel.id];
  const single = asked.filter(({ target }) => target.format === 'table').length === 1;
  const frames = asked.flatMap((answer) =>
    answer.target.format === 'table' ? tableFrame(answer, single) : answer.result.map((series) => seriesFrame(answer, series))
  );
  const transformed = await lastValueFrom(transformDataFrame(panel.transformations ?? [], frames, { interpolate: replaceVariables }));
  const ready = applyFieldOverrides({
    data: transformed,
    fieldConfig: fieldConfigOf(panel),
    fieldConfigRegistry: registryOf(panel),
    replaceVariables,
    theme,
    timeZone,
  });
  cacheFieldDisplayNames(ready);
  return ready;
}

// ---- settings of fields ----

const graph = {
  drawStyle: 'line',
  lineInterpolation: 'linear',
  lineWidth: 1,
  fillOpacity: 0,
  gradientMode: 'none',
  showPoints: 'auto',
  pointSize: 5,
  spanNulls: false,
  barAlignment: 0,
  barWidthFactor: 0.6,
  stacking: { mode: 'none', group: 'A' },
  axisPlacement: 'auto',
  axisColorMode: 'text',
  axisBorderShow: false,
  axisCenteredZero: false,
  scaleDistribution: { type: 'linear' },
  hideFrom: { legend: false, tooltip: false, viz: false },
  thresholdsStyle: { mode: 'off' },
};
const fieldDefaults = {
  timeseries: { color: { mode: 'palette-classic' }, custom: graph },
  table: { custom: { align: 'auto', cellOptions: { type: 'auto' } } },
};
const thresholds = { mode: 'absolute', steps: [{ color: 'green', value: null }, { color: 'red', value: 80 }] };

/** JSON knows no -Infinity, where the lowest threshold begins. */
const fromMinusInfinity = ({ mode, steps }) => ({
  mode,
  steps: steps.map(({ color, value }) => ({ color, value: value ?? -Infinity })),
});

function fieldConfigOf({ type, fieldConfig }) {
  const { defaults = {}, overrides = [] } = fieldConfig ?? {};
  const own = fieldDefaults[type] ?? {};
  return {
    defaults: {
      color: { mode: 'thresholds' },
      ...own,
      ...defaults,
      thresholds: fromMinusInfinity(defaults.thresholds ?? thresholds),
      custom: { ...own.custom, ...defaults.custom },
    },
    overrides: overrides.map(({ matcher, properties }) => ({
      matcher,
      properties: properties.map(({ id, value }) => ({ id, value: id === 'thresholds' ? fromMinusInfinity(value) : value })),
    })),
  };
}

/** Grafana's plugins register every setting that a field may have; here it is those that the panel sets. */
function registryOf(panel) {
  const { defaults, overrides } = fieldConfigOf(panel);
  const { custom, ...standard } = defaults;
  const ids = new Set([
    ...Object.keys(standard),
    ...Object.keys(custom).map((name) => `custom.${name}`),
    ...overrides.flatMap(({ properties }) => properties.map(({ id }) => id)),
  ]);
  return new FieldConfigOptionsRegistry(() =>
    [...ids].map((id): any => ({
      id,
      name: id,
      path: id.replace(/^custom\./, ''),
      isCustom: id.startsWith('custom.'),
      process: identityOverrideProcessor,
      shouldApply: () => true,
    }))
  );
}

// ---- panels ----

type Size = { width: number; height: number };
type Drawn = Size & { panel: any; frames: DataFrame[] };

/** One value or several side by side. */
function Stat({ panel, frames, width, height }: Drawn) {
  const { reduceOptions, orientation = VizOrientation.Auto, wideLayout = true, ...options } = panel.options ?? {};
  const { colorMode = 'value', graphMode = 'area', justifyMode = 'auto', textMode = 'auto', text } = options;
  const getValues = () =>
    getFieldDisplayValues({
      fieldConfig: fieldConfigOf(panel),
      reduceOptions: { calcs: ['lastNotNull'], values: false, ...reduceOptions },
      replaceVariables,
      theme,
      data: frames,
      sparkline: graphMode !== 'none',
      timeZone,
    });
  return (
    <VizRepeater<FieldDisplay, DisplayValueAlignmentFactors>
      {...{ getValues, width, height, orientation }}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      source={frames}
      renderCounter={0}
      autoGrid
      itemSpacing={3}
      renderValue={({ value, alignmentFactors, width, height, count }) => (
        <BigValue
          value={value.display}
          sparkline={value.sparkline && { ...value.sparkline, timeRange }}
          {...{ colorMode, graphMode, justifyMode, textMode, text, alignmentFactors, width, height, count, theme }}
          disableWideLayout={!wideLayout}
        />
      )}
    />
  );
}

function Series({ panel, frames: raw, width, height }: Drawn) {
  // A chart has gaps where others would show NaN.
  const finite = (field: Field) => ({ ...field, values: field.values.map((value) => (Number.isFinite(value) ? value : null)) });
  const frames = raw.map((frame) => ({ ...frame, fields: frame.fields.map(finite) }));
  const legend = { showLegend: true, displayMode: 'list', placement: 'bottom', calcs: [], ...panel.options?.legend };
  return <TimeSeries {...{ frames, timeRange, timeZone, width, height, legend }} structureRev={1} options={panel.options} />;
}

function Table({ panel, frames, width, height }: Drawn) {
  const { showHeader = true, cellHeight = 'sm', sortBy } = panel.options ?? {};
  return (
    <TableNG
      data={frames[0]}
      {...{ width, height, cellHeight, timeRange }}
      noHeader={!showHeader}
      initialSortBy={sortBy}
      enableVirtualization={false}
      structureRev={1}
    />
  );
}

const kinds = {
  stat: Stat,
  timeseries: Series,
  table: Table,
  heatmap: (drawn: Drawn) => <Heatmap {...{ ...drawn, theme, timeRange, timeZone }} />,
};

function Panel({ panel, frames, width, height }: Drawn) {
  const Kind = kinds[panel.type];
  if (!Kind) throw new Error(`${panel.title}: panels of type ${panel.type} are not drawn here`);
  // A stat says itself that there is nothing.
  const nothing = panel.type !== 'stat' && frames.every(({ length }) => length === 0);
  const noValue = panel.fieldConfig?.defaults?.noValue ?? 'No data';
  return (
    <PanelChrome
      title={replaceVariables(panel.title ?? '')}
      description={panel.description}
      displayMode={panel.transparent ? 'transparent' : 'default'}
      padding={panel.type === 'table' ? 'none' : 'md'}
      width={width}
      height={height}
    >
      {(width, height) => 
        nothing ? (
          <div style={{ width, height, display: 'grid', placeItems: 'center', color: theme.colors.text.secondary }}>{noValue}</div>
        ) : (
          <Kind {...{ panel, frames, width, height }} />
        )
      }
    </PanelChrome>
  );
}

const Row = ({ panel }) => (
  <div style={{ display: 'flex', alignItems: 'center', gap: 8, height: 30, font: `500 16px ${theme.typography.fontFamily}` }}>
    <Icon name={panel.collapsed ? 'angle-right' : 'angle-down'} />
    {replaceVariables(panel.title ?? '')}
  </div>
);

// ---- the dashboard ----

const gap = 8; // between cells of the grid, and
const cell = 30; // the height of one: Grafana's own figures
const margin = 16;
const column = (width - 2 * margin + gap) / 24;

function Cell({ panel, children }: { panel: any; children: (size: Size) => ReactNode }) {
  const { x, y, w, h } = panel.gridPos;
  const size = { width: Math.floor(w * column - gap), height: h * (cell + gap) - gap };
  return <div style={{ position: 'absolute', left: x * column, top: y * (cell + gap), ...size }}>{children(size)}</div>;
}

function Controls() {
  const shown = (dashboard.templating?.list ?? []).filter(({ hide }) => !hide || hide === 'dontHide');
  const spoken = { s: 'seconds', m: 'minutes', h: 'hours', d: 'days' }[range.slice(-1)];
  const value = ({ name, includeAll }) => (includeAll ? 'All' : variables[name]);
  const box = { height: 32, padding: '0 8px', display: 'flex', alignItems: 'center', border: `1px solid ${theme.components.input.borderColor}` };
  return (
    <div style={{ display: 'flex', gap, marginBottom: margin, fontSize: 12 }}>
      {shown.map((variable) => (
        <div key={variable.name} style={{ display: 'flex' }}>
          <div style={{ ...box, fontWeight: 500, background: theme.colors.background.secondary }}>{variable.label ?? variable.name}</div>
          <div style={{ ...box, fontSize: 14, borderLeft: 0, background: theme.components.input.background }}>{value(variable)}</div>
        </div>
      ))}
      <div style={{ flexGrow: 1 }} />
      {(dashboard.links ?? []).map(({ title }) => (
        <ToolbarButton key={title} icon="apps" variant="canvas">
          {title}
        </ToolbarButton>
      ))}
      <ToolbarButton icon="clock-nine" variant="canvas">{`Last ${parseInt(range, 10)} ${spoken}`}</ToolbarButton>
    </div>
  );
}

function Dashboard({ frames }: { frames: Record<number, DataFrame[]> }) {
  useEffect(() => {
    // Charts measure themselves and draw once more after the first paint.
    setTimeout(() => (window.drawn = true), 1000);
  }, []);
  const height = Math.max(...dashboard.panels.map(({ gridPos: { y, h } }) => (y + h) * (cell + gap))) - gap;
  return (
    <div style={{ padding: margin, background: theme.colors.background.canvas, color: theme.colors.text.primary }}>
      <Controls />
      <div style={{ position: 'relative', height }}>
        {dashboard.panels.map((panel) => (
          <Cell key={panel.id} panel={panel}>
            {(size) => (panel.type === 'row' ? <Row panel={panel} /> : <Panel panel={panel} frames={frames[panel.id]} {...size} />)}
          </Cell>
        ))}
      </div>
    </div>
  );
}

declare global {
  interface Window {
    picture: any;
    drawn: boolean;
  }
}

const frames: Record<number, DataFrame[]> = {};
for (const panel of dashboard.panels) frames[panel.id] = await framesOf(panel);

const root = createRoot(document.getElementById('root')!);
const render = (content: ReactNode) =>
  root.render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      {content}
    </ThemeContext.Provider>
  );
// Grafana measures text on a canvas and remembers it, so the fonts, which are among the styles, have to be there first.
flushSync(() => render(null));
await Promise.all(['400 12px Inter', '500 12px Inter', '400 12px "Roboto Mono"'].map((font) => document.fonts.load(font)));
render(<Dashboard frames={frames} />);
