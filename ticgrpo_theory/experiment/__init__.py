"""What every experiment needs: results files, cells that survive a kill, sweeps over a grid, notebooks."""
