"""Arrays in, arrays out: MFCC images, face crops and their augmented variants."""
