// What all plots share: uPlot's options in the page's colours, one time window for all plots of a view, and redrawing on resize.

import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { colour } from '../app/theme.svelte';

export interface Range { min: number; max: number }
export type OnRange = (range: Range | null) => void;

export const axisWidth = 58;

export function axes(xLabel: string | null, yLabel: string): uPlot.Axis[] {
  const line = colour('line'), muted = colour('muted'), font = '11.5px system-ui, "DejaVu Sans", sans-serif';
  const shared = { stroke: muted, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 }, font, labelFont: font };
  return [
    { ...shared, size: xLabel === null ? 22 : 24, gap: 3, ...(xLabel ? { label: xLabel, labelSize: 16, labelGap: 0 } : {}) },
    { ...shared, size: axisWidth, gap: 3, ...(yLabel ? { label: yLabel, labelSize: 16, labelGap: 0, size: axisWidth - 16 } : {}) },
  ];
}

/** Dragging selects a time window, a double click shows all; the cursor is shared by all plots with the same `key`. */
export function gestures(key: string, onrange: OnRange): Pick<uPlot.Options, 'cursor' | 'hooks'> {
  return {
    cursor: {
      sync: { key, setSeries: false },
      drag: { x: true, y: false, setScale: false },
      bind: { dblclick: () => () => { onrange(null); return null; } },
      points: { size: 6 },
    },
    hooks: {
      setSelect: [(plot) => {
        if (plot.select.width < 4) return;
        const range = { min: plot.posToVal(plot.select.left, 'x'), max: plot.posToVal(plot.select.left + plot.select.width, 'x') };
        plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        onrange(range);
      }],
    },
  };
}

/** Calls `changed` with the new size; returns the function that stops it. */
export function watchSize(element: HTMLElement, changed: (width: number, height: number) => void): () => void {
  const observer = new ResizeObserver(([entry]) => {
    if (entry) changed(Math.max(120, Math.floor(entry.contentRect.width)), Math.max(40, Math.floor(entry.contentRect.height)));
  });
  observer.observe(element);
  return () => observer.disconnect();
}
