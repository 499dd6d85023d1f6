"""What others see: pictures, curves, panels, the report page, the Hub."""
